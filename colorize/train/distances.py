"""Distances between a prediction and its target that a configuration can name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Distance = Callable[[Tensor, Tensor], Tensor]


def mean_squared_logarithmic(predicted: Tensor, true: Tensor) -> Tensor:
    """MSLE: mean of `(log(1 + predicted) - log(1 + true))**2`, for values of at least 0."""
    return F.mse_loss(torch.log1p(predicted), torch.log1p(true))


DISTANCES: dict[str, Distance] = {
    "mse": F.mse_loss,
    "msle": mean_squared_logarithmic,
    "l1": F.l1_loss,
    "bce": F.binary_cross_entropy,
    "huber": F.huber_loss,
}
UNIT_ONLY = ("msle", "bce")  # defined for values in [0, 1] only, such as RGB
