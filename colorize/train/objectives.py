"""Chooses the objective of a network, and the objectives of the classic approaches.

An objective maps L and a target, sRGB for an `RgbModel` and ab for every other network, to losses.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from colorize.errors import UsageError
from colorize.models import BinModel, ColorModel, RgbModel
from colorize.models.base import AB_SCALE
from colorize.models.palette_cnn import PaletteCnn
from colorize.train.losses import BinObjective, ColorObjective, Losses, RegressionObjective, shrink
from colorize.train.settings import LossSettings
from colorize.train.terms import with_terms

Distance = Callable[[Tensor, Tensor], Tensor]

DISTANCES: dict[str, Distance] = {
    "mse": F.mse_loss,
    "msle": lambda predicted, true: F.mse_loss(predicted.log1p(), true.log1p()),
    "l1": F.l1_loss,
    "bce": F.binary_cross_entropy,
    "huber": F.huber_loss,
}
UNIT_ONLY = ("msle", "bce")  # defined in [0, 1] only, such as RGB


def create_objective(model: ColorModel, settings: LossSettings, prior_Q: Tensor | None = None) -> nn.Module:
    """The objective that fits the network and the settings.

    Args:
        model: any registered network.
        settings: the loss and its weights.
        prior_Q: frequencies of the network's bins in the training images (`count_bins`).

    Raises:
        UsageError: the loss does not fit the network, or the package with the perceptual weights is missing.
    """
    return with_terms(_main_objective(model, settings, prior_Q), settings)


def _main_objective(model: ColorModel, settings: LossSettings, prior_Q: Tensor | None) -> nn.Module:
    if isinstance(model, BinModel):
        _allow(model, settings.name, ["auto"])
        return BinObjective(model, settings, prior_Q)
    if isinstance(model, PaletteCnn):
        _allow(model, settings.name, ["auto", "cross_entropy"])
        return PaletteObjective(model)
    if isinstance(model, RgbModel):
        _allow(model, settings.name, ["auto", *DISTANCES])
        return RgbObjective(model, named_distance(settings.name))
    _allow(model, settings.name, ["auto", *(name for name in DISTANCES if name not in UNIT_ONLY)])
    return RegressionObjective(model) if settings.name == "auto" else AbObjective(model, named_distance(settings.name))


def named_distance(name: str) -> Distance:
    """The distance by its name; "auto" is "huber"."""
    return DISTANCES["huber" if name == "auto" else name]


class AbObjective(ColorObjective):
    """A distance between predicted and true ab, divided by 128."""

    def __init__(self, model: ColorModel, distance: Distance) -> None:
        super().__init__()
        self.model, self.distance = model, distance

    def losses_and_ab(self, L_B1HW: Tensor, ab_B2HW: Tensor) -> tuple[Losses, Tensor]:
        predicted = self.model(L_B1HW)
        with torch.autocast(predicted.device.type, enabled=False):
            true = shrink(ab_B2HW, predicted.shape[2:])
            return {"loss": self.distance(predicted.float() / AB_SCALE, true / AB_SCALE)}, predicted


class RgbObjective(nn.Module):
    """A distance between predicted and true sRGB in [0, 1]."""

    def __init__(self, model: RgbModel, distance: Distance) -> None:
        super().__init__()
        self.model, self.distance = model, distance

    def forward(self, L_B1HW: Tensor, rgb_B3HW: Tensor) -> Losses:
        predicted = self.model.rgb(L_B1HW)
        with torch.autocast(predicted.device.type, enabled=False):
            return {"loss": self.distance(predicted.float(), rgb_B3HW)}


class PaletteObjective(nn.Module):
    """Cross-entropy of each pixel's nearest palette color."""

    def __init__(self, model: PaletteCnn) -> None:
        super().__init__()
        self.model = model

    def forward(self, L_B1HW: Tensor, rgb_B3HW: Tensor) -> Losses:
        logits = self.model.logits(L_B1HW).float()
        target = self.model.classify(rgb_B3HW)
        accuracy = (logits.argmax(dim=1) == target).float().mean()
        return {"loss": F.cross_entropy(logits, target), "accuracy": accuracy}


def _allow(model: ColorModel, name: str, allowed: list[str]) -> None:
    if name not in allowed:
        raise UsageError(f"loss.name={name}: {type(model).__name__} can be trained on {', '.join(allowed)} only")
