"""How certain a figure is that was measured on a sample of pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.float64]  # (R, N): how often each of N pictures is in each of R resamples

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
    statistic: Callable[[Counts], Floats],
    pictures: int,
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """A figure of `pictures` pictures with its percentile bootstrap interval.

    Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13: the pictures are drawn again with
    replacement, the figure is computed of each draw, and the interval lies between two quantiles of the results. Two
    models' difference is compared pairwise by a statistic that knows both: then both see the same draws.

    Args:
        statistic: from counts `(R, N)` (each row sums to N) to the figure of each row, `(R,)`. Weighted means do:
            `lambda counts: counts @ values / pictures`.
        pictures: N.
        resamples: draws; 2000 place the ends of the interval to within a few percent of its width.
        confidence: of the interval.
        seed: of the draws.
    """
    value = float(statistic(np.ones((1, pictures)))[0])
    if pictures < 2:
        return Interval(value, value, value)
    random = np.random.default_rng(seed)
    shares = np.full(pictures, 1 / pictures)
    step = max(1, _CHUNK // pictures)
    draws = [
        statistic(random.multinomial(pictures, shares, size=min(step, resamples - start)).astype(np.float64))
        for start in range(0, resamples, step)
    ]
    low, high = np.quantile(np.concatenate(draws), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))
