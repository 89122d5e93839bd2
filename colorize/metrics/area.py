"""The area under the curve of ab errors (AuC), raw and rebalanced by how rare the true colors are.

Zhang, Isola and Efros, "Colorful Image Colorization" (2016), section 3.1: the fraction of pixels with an ab error
below a threshold, averaged over thresholds from 0 to 150. Averaging over thresholds first gives a score per pixel, so
that sums over images can be combined in any way.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

THRESHOLDS = 151  # 0, 1, ..., 150 Lab units
BIN = 10.0  # width of a bin of true colors, as published
BINS_PER_SIDE = 23  # centers at -110, -100, ..., 110
BINS = BINS_PER_SIDE**2
SMOOTHING = 5.0  # Lab units: deviation of the Gaussian that smooths the frequencies, as published

Floats = npt.NDArray[np.float64]


def pixel_scores(predicted_B2HW: Tensor, true_B2HW: Tensor) -> Tensor:
    """Fraction of thresholds that each pixel's ab error does not exceed: `(B, H, W)` in [0, 1]."""
    error: Tensor = torch.linalg.vector_norm(predicted_B2HW - true_B2HW, dim=1)
    return (THRESHOLDS - error.ceil()).clamp(min=0) / THRESHOLDS


def auc_by_bin(predicted_B2HW: Tensor, true_B2HW: Tensor) -> tuple[Tensor, Tensor]:
    """Pixel counts and sums of scores by bin of the true color: both `(B, BINS)`, float32.

    The raw AuC is the sum of scores divided by the sum of counts.
    """
    cell = (true_B2HW / BIN).round().clamp(-(BINS_PER_SIDE // 2), BINS_PER_SIDE // 2) + BINS_PER_SIDE // 2
    index = (cell[:, 0] * BINS_PER_SIDE + cell[:, 1]).long().flatten(1)
    scores = pixel_scores(predicted_B2HW, true_B2HW).flatten(1)
    empty = scores.new_zeros(len(scores), BINS)
    return empty.scatter_add(1, index, torch.ones_like(scores)), empty.scatter_add(1, index, scores)


def rarity_weights(pixels_Q: npt.NDArray[np.floating]) -> Floats:
    """Weight of a pixel of each bin in the rebalanced AuC, inversely proportional to the frequency of its color.

    Equation 4 of the paper with lambda = 0, but with the frequencies of the images evaluated instead of ImageNet's:
    values are comparable within one evaluation only.

    Args:
        pixels_Q: pixels in each bin, `(BINS,)`.

    Returns:
        `(BINS,)`, with mean 1 over the pixels; 0 for empty bins.
    """
    centers = (np.arange(BINS_PER_SIDE) - BINS_PER_SIDE // 2) * BIN
    kernel = np.exp(-0.5 * ((centers[:, None] - centers) / SMOOTHING) ** 2)
    kernel /= kernel.sum(axis=0)
    pixels = np.asarray(pixels_Q, np.float64)
    smooth = (kernel @ pixels.reshape(BINS_PER_SIDE, -1) @ kernel.T).ravel()
    weights = np.divide(1.0, smooth, out=np.zeros(BINS), where=pixels > 0)
    return np.asarray(weights * (pixels.sum() / (weights * pixels).sum()), np.float64)
