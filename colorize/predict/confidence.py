"""The uncertainty of a network's colors, per cell.

For a network that predicts a distribution over color bins it is computed from the distribution
(`BinModel.uncertainty`), for any other from the disagreement with the colors of the mirrored image. docs/model.md has
measurements, made by `benchmarks/confidence.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from colorize.models import BinModel

MIRROR_SCALE = 20.0  # Lab units: at this disagreement, confidence is 1/e


def color_and_uncertainty(model: nn.Module, L_B1HW: Tensor, *hints_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """The ab `(B, 2, h, w)` of `model` for lightness and hints, and its uncertainty `(B, h, w)` in [0, 1]."""
    if isinstance(model, BinModel):
        logits = model.logits(L_B1HW)
        ab_B2hw = model.color_from(logits, L_B1HW)
        return ab_B2hw, model.uncertainty(logits, ab_B2hw, L_B1HW)
    ab: Tensor = model(L_B1HW, *hints_BCHW)
    mirrored: Tensor = model(L_B1HW.flip(3), *(plane.flip(3) for plane in hints_BCHW)).flip(3)
    return ab, disagreement(ab, mirrored)


def disagreement(ab_B2hw: Tensor, other_B2hw: Tensor) -> Tensor:
    """The difference of two predictions as `1 - exp(-distance / MIRROR_SCALE)`: `(B, h, w)`, 0 for equal ones."""
    distance = torch.linalg.vector_norm((ab_B2hw - other_B2hw).float(), dim=1)
    uncertainty: Tensor = 1 - torch.exp(-distance / MIRROR_SCALE)
    return uncertainty
