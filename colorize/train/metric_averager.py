"""Means of metrics over steps, without synchronizing with the device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from torch import Tensor


class MetricAverager:
    """Averages each metric over the steps that have it. Sums stay on the device until they are read."""

    def __init__(self, saved: Mapping[str, tuple[float, int]] | None = None) -> None:
        """Resumes from a `state_dict`."""
        self._sums: dict[str, Tensor | float] = {name: total for name, (total, _) in (saved or {}).items()}
        self._counts: Counter[str] = Counter({name: count for name, (_, count) in (saved or {}).items()})

    def state_dict(self) -> dict[str, tuple[float, int]]:
        """Sum and number of steps of each metric."""
        return {name: (float(total), self._counts[name]) for name, total in self._sums.items()}

    def add(self, figures: Mapping[str, Tensor]) -> None:
        """Adds a step's scalars."""
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._counts.update(figures.keys())

    def __getitem__(self, name: str) -> float:
        """The mean so far. Raises KeyError for an unknown metric."""
        return float(self._sums[name]) / self._counts[name]

    def all(self) -> dict[str, float]:
        """All means."""
        return {name: self[name] for name in self._sums}
