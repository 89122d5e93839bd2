"""Compression of chroma outliers: small areas that are far more vivid than the rest of the image. No torch.

A network may predict an implausible color for a few cells, such as a purple corner in a muted street. Chroma is softly
compressed above a limit: a multiple of the image's 90th percentile, but at least a value that is common in
photographs. On 150 held-out photographs the maximum is 1.7 times the 90th percentile in the median and 5.3 times in 1
% of the images, both in the ground truth and in predictions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MIN_LIMIT = 36.0  # Lab units: the limit is at least this chroma,
FACTOR = 2.5  # and at least this multiple of
QUANTILE = 0.9  # this quantile of the image's chroma
HEADROOM = 0.25  # compressed chroma exceeds the limit by at most this fraction

Ab = npt.NDArray[np.float32]  # (2, h, w), Lab units, a whole image


def may_have_outliers(ab_B2hw: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """A cheap check of each image in a batch (B, 2, h, w): False if `compress_outliers` would not change it."""
    largest = np.square(ab_B2hw).sum(axis=1).max(axis=(1, 2))
    return np.asarray(~(largest <= MIN_LIMIT**2))


def compress_outliers(ab_2hw: Ab) -> Ab:
    """Compresses chroma outliers and keeps hues; returns the same array if there are none.

    Values that are not finite are returned as such.
    """
    chroma = np.hypot(ab_2hw[0], ab_2hw[1])
    if not chroma.max() > MIN_LIMIT:  # most images; also NaN
        return ab_2hw
    limit = max(MIN_LIMIT, FACTOR * float(np.quantile(chroma, QUANTILE)))
    if not chroma.max() > limit:
        return ab_2hw
    above = np.maximum(chroma - limit, 0)
    headroom = HEADROOM * limit
    compressed = np.minimum(chroma, limit) + headroom * np.tanh(above / headroom)
    return np.asarray(ab_2hw * (compressed / np.maximum(chroma, 1e-6)), np.float32)
