"""Optional loss terms: perceptual distance and colorfulness."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from colorize.errors import UsageError
from colorize.imaging.color import lab_to_rgb
from colorize.metrics import colorfulness, perceptual_distance
from colorize.models.efficientnet_lite import EfficientNetLite, encoder_state, published_state
from colorize.train.losses import ColorObjective, Losses
from colorize.train.settings import LossSettings

_VIVID = 100.0  # colorfulness at which the term is 0
_TINY = 1e-6  # keeps the gradient finite for grey images


class Term(nn.Module):
    """Maps `(predicted, true)`, sRGB in [0, 1] `(B, 3, H, W)`, to a scalar to minimize."""

    name: str


class Perceptual(Term):
    """`perceptual_distance` of EfficientNet-Lite0's features."""

    name = "perceptual"

    def __init__(self) -> None:
        """Raises MissingWeightsError without the optional package."""
        super().__init__()
        self.encoder = EfficientNetLite(channels=3)
        self.encoder.load_state_dict(encoder_state(published_state()), strict=True)
        self.encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> Perceptual:
        """Stays in eval mode."""
        return super().train(False)

    def forward(self, predicted_B3HW: Tensor, true_B3HW: Tensor) -> Tensor:
        with torch.no_grad():
            true = self.encoder(true_B3HW)
        predicted = self.encoder(predicted_B3HW)
        with torch.autocast(predicted_B3HW.device.type, enabled=False):
            return perceptual_distance([x.float() for x in predicted], [x.float() for x in true]).mean()


class Colorfulness(Term):
    """Rewards colorful predictions: 1 - colorfulness / 100. Kang et al., "DDColor" (2023), equation 7."""

    name = "colorfulness"

    def forward(self, predicted_B3HW: Tensor, true_B3HW: Tensor) -> Tensor:
        return 1 - colorfulness(predicted_B3HW, epsilon=_TINY).mean() / _VIVID


class ObjectiveWithTerms(ColorObjective):
    """An objective plus weighted terms on RGB made of the input's lightness and the predicted or true ab."""

    def __init__(self, objective: ColorObjective, terms: Sequence[Term], weights: Sequence[float]) -> None:
        super().__init__()
        self.objective, self.terms, self.weights = objective, nn.ModuleList(terms), list(weights)

    def losses_and_ab(self, L_B1HW: Tensor, ab_B2HW: Tensor) -> tuple[Losses, Tensor]:
        losses, predicted = self.objective.losses_and_ab(L_B1HW, ab_B2HW)
        with torch.autocast(L_B1HW.device.type, enabled=False):
            upsampled = F.interpolate(predicted.float(), L_B1HW.shape[2:], mode="bilinear", align_corners=False)
            images = [lab_to_rgb(torch.cat((L_B1HW, ab), dim=1)) for ab in (upsampled, ab_B2HW)]
        for term, weight in zip(self.terms, self.weights, strict=True):
            value = term(*images)
            losses["loss"] = losses["loss"] + weight * value
            losses[str(term.name)] = value.detach()
        return losses, predicted


def with_terms(objective: nn.Module, settings: LossSettings) -> nn.Module:
    """The objective, with the terms whose weight is not 0.

    Raises:
        UsageError: the network does not predict ab, or as in `Perceptual`.
    """
    weights = {kind: getattr(settings, kind.name) for kind in (Perceptual, Colorfulness)}
    weights = {kind: weight for kind, weight in weights.items() if weight}
    if not weights:
        return objective
    if not isinstance(objective, ColorObjective):
        name = next(iter(weights)).name
        raise UsageError(f"loss.{name}: this network does not predict ab itself; set loss.{name}=0")
    return ObjectiveWithTerms(objective, [kind() for kind in weights], list(weights.values()))
