"""How certain figures are that were measured on a sample of images."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.float64]  # (R, N): how often each of N images is in each of R resamples
Statistic = Callable[[Counts], Floats]  # (R, N) -> (R,)
K = TypeVar("K", bound=Hashable)

_CHUNK = 1 << 22  # numbers in a step's table of counts: 32 MB


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and the interval that holds it with the confidence asked for."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside: of a difference, whether it is more than chance."""
        return self.low > 0 or self.high < 0


def bootstrap(
    statistics: Mapping[K, Statistic],
    images: int,
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[K, Interval]:
    """Figures of `images` images with their percentile bootstrap intervals.

    Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13: the images are drawn again with
    replacement, the figures are computed of each draw, and the intervals lie between two quantiles of the results. All
    figures see the same draws. Two models' difference is compared pairwise by a statistic that knows both.

    Args:
        statistics: each from counts `(R, N)` (each row sums to N) to a figure of each row, `(R,)`. Weighted means do:
            `lambda counts: counts @ values / images`.
        images: N.
        resamples: draws; 2000 place the ends of an interval to within a few percent of its width.
        confidence: of the intervals.
        seed: of the draws.
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
