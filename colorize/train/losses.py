"""Objectives for ab. An objective contains its network, so that data-parallel wrappers wrap both."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from colorize.models import BinModel, ColorModel
from colorize.train.settings import LossSettings

Losses = dict[str, Tensor]  # scalars by name; "loss" is the one to minimize

_CELL = 2.0  # Lab units: resolution of the table of soft targets
_REACH = 128.0  # the table covers [-128, 128] in a* and b*
_AB_UNIT = 10.0  # Lab units: the delta of the Huber term


class ColorObjective(nn.Module):
    """An objective of a network that predicts ab, which can be combined with other terms."""

    def losses_and_ab(self, L_B1HW: Tensor, ab_B2HW: Tensor) -> tuple[Losses, Tensor]:
        """The losses, and the predicted ab `(B, 2, h, w)`, float32, differentiable."""
        raise NotImplementedError

    def forward(self, L_B1HW: Tensor, ab_B2HW: Tensor) -> Losses:
        return self.losses_and_ab(L_B1HW, ab_B2HW)[0]


class RegressionObjective(ColorObjective):
    """Huber loss of ab, in units of 10."""

    def __init__(self, model: ColorModel) -> None:
        super().__init__()
        self.model = model

    def losses_and_ab(self, L_B1HW: Tensor, ab_B2HW: Tensor) -> tuple[Losses, Tensor]:
        predicted = self.model(L_B1HW)
        return {"loss": _huber(predicted, shrink(ab_B2HW, predicted.shape[2:]))}, predicted


class BinObjective(ColorObjective):
    """Rebalanced cross-entropy with soft targets, plus the Huber loss of the decoded ab.

    Zhang, Isola and Efros, "Colorful Image Colorization" (2016), sections 2.1 and 2.2.
    """

    def __init__(self, model: BinModel, settings: LossSettings, prior_Q: Tensor | None = None) -> None:
        super().__init__()
        self.model = model
        self.huber = settings.huber
        bins = model.bins_Q2
        prior = torch.full((len(bins),), 1 / len(bins)) if prior_Q is None else prior_Q.cpu()
        self.register_buffer("targets_NQ", soft_targets(bins.cpu(), settings.neighbors, settings.sigma))
        self.register_buffer("weights_Q", rebalancing(prior, settings.uniform, settings.rebalance))
        self.targets_NQ: Tensor
        self.weights_Q: Tensor

    def losses_and_ab(self, L_B1HW: Tensor, ab_B2HW: Tensor) -> tuple[Losses, Tensor]:
        logits = self.model.logits(L_B1HW)
        with torch.autocast(logits.device.type, enabled=False):
            ab = shrink(ab_B2HW, logits.shape[2:])
            target = F.embedding(cell_index(ab), self.targets_NQ)  # (B, h, w, Q)
            log_probability = logits.float().permute(0, 2, 3, 1).log_softmax(dim=-1)
            entropy = -(target * log_probability).sum(dim=-1)
            weight = self.weights_Q[target.argmax(dim=-1)]
            rebalanced = (weight * entropy).mean()
            predicted = self.model.decode(logits)
            distance = _huber(predicted, ab)
        loss = rebalanced + self.huber * distance
        return {"loss": loss, "cross_entropy": entropy.mean().detach(), "huber": distance.detach()}, predicted


def shrink(ab_B2HW: Tensor, sides: Sequence[int]) -> Tensor:
    """Average pooling to `sides` (height, width)."""
    return F.adaptive_avg_pool2d(ab_B2HW, (sides[0], sides[1]))


def count_bins(ab_B2HW: Tensor, bins_Q2: Tensor) -> Tensor:
    """Number of pixels nearest to each bin: `(Q,)`, float."""
    ab_N2 = ab_B2HW.permute(0, 2, 3, 1).reshape(-1, 2)
    nearest = torch.cdist(ab_N2, bins_Q2).argmin(dim=1)
    return torch.bincount(nearest, minlength=len(bins_Q2)).float()


def rebalancing(prior_Q: Tensor, uniform: float, power: float) -> Tensor:
    """Weight of a pixel by its nearest bin: `((1 - uniform) * prior + uniform / Q) ** -power`, mean 1.

    Args:
        prior_Q: counts or frequencies of the bins in the training images.
        uniform: share of the uniform distribution in the prior, which limits the weights of the rarest bins.
        power: 0 is no rebalancing, 1 as in the paper, which makes small networks oversaturate.
    """
    prior = prior_Q / prior_Q.sum()
    weights = ((1 - uniform) * prior + uniform / len(prior)) ** -power
    return weights / (prior * weights).sum()


def soft_targets(bins_Q2: Tensor, neighbors: int, sigma: float) -> Tensor:
    """Distribution over the nearest bins for each color of the table: `(cells, Q)`. See `cell_index`."""
    steps = torch.arange(-_REACH, _REACH + _CELL, _CELL)
    distance = torch.cdist(torch.cartesian_prod(steps, steps), bins_Q2)
    nearest, index = distance.topk(neighbors, dim=1, largest=False)
    weight = (-0.5 * (nearest / sigma) ** 2 + 0.5 * (nearest[:, :1] / sigma) ** 2).exp()
    target = torch.zeros_like(distance).scatter_(1, index, weight)
    return target / target.sum(dim=1, keepdim=True)


def cell_index(ab_B2hw: Tensor) -> Tensor:
    """Row of `soft_targets` for each pixel: `(B, h, w)`, int64."""
    cell = ((ab_B2hw.clamp(-_REACH, _REACH) + _REACH) / _CELL).round().long()
    return cell[:, 0] * (int(2 * _REACH / _CELL) + 1) + cell[:, 1]


def _huber(predicted: Tensor, true: Tensor) -> Tensor:
    return F.huber_loss(predicted / _AB_UNIT, true / _AB_UNIT)
