"""Bootstrap confidence intervals."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.float64]  # (R, N): multiplicity of each of N images in each of R resamples
Statistic = Callable[[Counts], Floats]  # (R, N) -> (R,)
K = TypeVar("K", bound=Hashable)

_CHUNK = 1 << 22  # counts held at once: 32 MB


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its confidence interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is significant."""
        return self.low > 0 or self.high < 0


def bootstrap(
    statistics: Mapping[K, Statistic],
    images: int,
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[K, Interval]:
    """Statistics of `images` images with percentile bootstrap intervals; all see the same resamples.

    Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.

    Args:
        statistics: each maps counts `(R, N)`, whose rows sum to N, to values `(R,)`, for example
            `lambda counts: counts @ values / images`.
        images: N.
        resamples: R; 2000 determine the ends of an interval to within a few percent of its width.
        confidence: of the intervals.
        seed: of the resampling.
    """
    values = {name: float(statistic(np.ones((1, images)))[0]) for name, statistic in statistics.items()}
    if images < 2:
        return {name: Interval(value, value, value) for name, value in values.items()}
    draws: dict[K, list[Floats]] = {name: [] for name in statistics}
    for counts in _resampled(images, resamples, seed):
        for name, statistic in statistics.items():
            draws[name].append(statistic(counts))
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    quantiles = {name: np.quantile(np.concatenate(found), ends).tolist() for name, found in draws.items()}
    return {name: Interval(value, *quantiles[name]) for name, value in values.items()}


def _resampled(images: int, resamples: int, seed: int) -> Iterator[Counts]:
    random = np.random.default_rng(seed)
    shares = np.full(images, 1 / images)
    step = max(1, _CHUNK // images)
    for start in range(0, resamples, step):
        yield random.multinomial(images, shares, size=min(step, resamples - start)).astype(np.float64)
