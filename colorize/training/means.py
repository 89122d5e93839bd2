"""Means of a training's figures over its steps, gathered without waiting for the device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from torch import Tensor


class Means:
    """A figure that some steps lack, as a discriminator's, is averaged over those that have it.

    Sums stay on the device that the figures come from; reading one waits for it.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: Counter[str] = Counter()

    def add(self, figures: Mapping[str, Tensor]) -> None:
        """One step's scalars."""
        for name, value in figures.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
        self._counts.update(figures.keys())

    def __getitem__(self, name: str) -> float:
        """The mean so far. Raises KeyError for a figure that no step had."""
        return float(self._sums[name]) / self._counts[name]

    def all(self) -> dict[str, float]:
        """Every figure's mean."""
        return {name: self[name] for name in self._sums}
