"""How sure a network is of its colors, place by place.

A network that predicts a distribution over color bins says itself how much it doubts (`BinModel.doubt`). Any other
doubts where it gives the mirrored image other colors: a guess that turns with the camera is not knowledge.
docs/model.md says what that is worth; `benchmarks/confidence.py` measures it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from colorize.models import BinModel

MIRROR_SCALE = 20.0  # Lab units of disagreement at which two thirds of the confidence are gone


def color_and_doubt(model: nn.Module, L_B1HW: Tensor, *hints_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """ab `(B, 2, h, w)` as `model` gives it for lightness and hints, and its doubt `(B, h, w)` in [0, 1]."""
    if isinstance(model, BinModel):
        logits = model.logits(L_B1HW)
        painted = model.painted(logits, L_B1HW)
        return painted, model.doubt(logits, painted, L_B1HW)
    ab: Tensor = model(L_B1HW, *hints_BCHW)
    mirrored: Tensor = model(L_B1HW.flip(3), *(plane.flip(3) for plane in hints_BCHW)).flip(3)
    return ab, disagreement(ab, mirrored)


def disagreement(ab_B2hw: Tensor, other_B2hw: Tensor) -> Tensor:
    """How far two predictions lie apart, 0 for equal ones and towards 1 for unlike ones: `(B, h, w)`."""
    distance = torch.linalg.vector_norm((ab_B2hw - other_B2hw).float(), dim=1)
    doubt: Tensor = 1 - torch.exp(-distance / MIRROR_SCALE)
    return doubt
