"""Perceptual distance between two images, in a network's feature space."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


def perceptual_distance(predicted: Sequence[Tensor], true: Sequence[Tensor]) -> Tensor:
    """Distance between the features of two batches, `(B,)`; 0 for equal images.

    Zhang, Isola, Efros, Shechtman and Wang, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric"
    (2018), equation 1 with all channel weights 1.
    """
    total = predicted[0].new_zeros(len(predicted[0]))
    for one, other in zip(predicted, true, strict=True):
        difference = nn.functional.normalize(one, dim=1) - nn.functional.normalize(other, dim=1)
        total += difference.square().sum(dim=1).mean(dim=(1, 2))
    return total
