"""The area under the curve of ab errors (AuC), raw and rebalanced by how rare the true colors are.

Zhang, Isola and Efros, "Colorful Image Colorization" (2016), section 3.1: the fraction of pixels whose ab error is
within a threshold, the threshold swept from 0 to 150 in steps of 1, the area under that curve normalized to 1. The
area is a mean over thresholds of a mean over pixels; exchanging the two gives each pixel a score of its own, so that
images can be measured apart and their sums combined in any way.
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
SMOOTHING = 5.0  # Lab units: deviation of the Gaussian that the bins' frequencies are smoothed with, as published

Floats = npt.NDArray[np.float64]


def pixel_scores(ours_B2HW: Tensor, true_B2HW: Tensor) -> Tensor:
    """The fraction of the thresholds that each pixel's ab error is within: `(B, H, W)` in [0, 1]."""
    error: Tensor = torch.linalg.vector_norm(ours_B2HW - true_B2HW, dim=1)
    return (THRESHOLDS - error.ceil()).clamp(min=0) / THRESHOLDS


def auc_by_bin(ours_B2HW: Tensor, true_B2HW: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels in each bin of true colors, and the sum of their scores: both `(B, BINS)`, float32.

    The raw AuC of images is the sum of their scores over the sum of their pixels.
    """
    cell = (true_B2HW / BIN).round().clamp(-(BINS_PER_SIDE // 2), BINS_PER_SIDE // 2) + BINS_PER_SIDE // 2
    index = (cell[:, 0] * BINS_PER_SIDE + cell[:, 1]).long().flatten(1)
    scores = pixel_scores(ours_B2HW, true_B2HW).flatten(1)
    empty = scores.new_zeros(len(scores), BINS)
    return empty.scatter_add(1, index, torch.ones_like(scores)), empty.scatter_add(1, index, scores)


def rarity_weights(pixels_Q: npt.NDArray[np.floating]) -> Floats:
    """How much a pixel of each bin counts in the rebalanced AuC: inversely to how often the bin's colors occur.

    Equation 4 of the paper with lambda = 0. Its frequencies are ImageNet's; here they are those of the true images
    that are measured, smoothed alike, so that figures compare within an evaluation only.

    Args:
        pixels_Q: pixels in each bin, `(BINS,)`.

    Returns:
        `(BINS,)`, mean 1 over the pixels; 0 for bins without any.
    """
    centers = (np.arange(BINS_PER_SIDE) - BINS_PER_SIDE // 2) * BIN
    kernel = np.exp(-0.5 * ((centers[:, None] - centers) / SMOOTHING) ** 2)
    kernel /= kernel.sum(axis=0)
    pixels = np.asarray(pixels_Q, np.float64)
    smooth = (kernel @ pixels.reshape(BINS_PER_SIDE, -1) @ kernel.T).ravel()
    weights = np.divide(1.0, smooth, out=np.zeros(BINS), where=pixels > 0)
    return np.asarray(weights * (pixels.sum() / (weights * pixels).sum()), np.float64)
