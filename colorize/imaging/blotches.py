"""A guard against blotches: small areas of a color far more vivid than anything else in the image. No torch.

A network that is mistaken about a few cells can give them a color that the rest of the image makes impossible: a
purple corner in a muted street. Chroma is compressed softly above a limit that the image itself sets: a multiple of
what nine tenths of it stay below, and never below what photographs show everywhere. On 150 held-out photographs the
most vivid cell has a chroma 1.7 times that in the median and 5.3 times in one of a hundred, in truth and as predicted.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ORDINARY = 36.0  # Lab units of chroma: below it nothing is touched, however grey the rest is
TIMES = 2.5  # nor below so many times the chroma that TENTHS of the image stay below
TENTHS = 0.9
ROOM = 0.25  # the most vivid color ends up at most this fraction above the limit

Ab = npt.NDArray[np.float32]  # (2, h, w), Lab units, a whole image


def may_be_tamed(ab_B2hw: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Whether `tame` has anything to look at, for each image of a batch (B, 2, h, w): for most it has not."""
    largest = np.square(ab_B2hw).sum(axis=1).max(axis=(1, 2))
    return np.asarray(~(largest <= ORDINARY**2))


def tame(ab_2hw: Ab) -> Ab:
    """The same colors, hues kept, but for outliers of chroma; the same array where there are none.

    Values that are not finite come back as such.
    """
    chroma = np.hypot(ab_2hw[0], ab_2hw[1])
    if not chroma.max() > ORDINARY:  # most images; or not a number
        return ab_2hw
    limit = max(ORDINARY, TIMES * float(np.quantile(chroma, TENTHS)))
    if not chroma.max() > limit:
        return ab_2hw
    above = np.maximum(chroma - limit, 0)
    room = ROOM * limit
    bent = np.minimum(chroma, limit) + room * np.tanh(above / room)
    return np.asarray(ab_2hw * (bent / np.maximum(chroma, 1e-6)), np.float32)
