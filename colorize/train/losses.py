"""What training minimizes. An objective holds its network, so that wrapping it (for data parallelism) wraps both."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from colorize.models import BinModel, ColorModel
from colorize.train.settings import LossSettings

Losses = dict[str, Tensor]  # scalars by name; "loss" is the one to minimize

_CELL = 2.0  # Lab units: colors are rounded to such cells before their soft target is looked up
_REACH = 128.0  # the cells cover [-128, 128] in a* and b*
_AB_UNIT = 10.0  # Lab units: the distance from which the Huber term grows linearly only


class ColorObjective(nn.Module):
    """An objective of a network that predicts ab, which further terms may judge: see `terms`."""

    def judged(self, L_B1HW: Tensor, ab_B2HW: Tensor) -> tuple[Losses, Tensor]:
        """The losses, and the predicted ab `(B, 2, h, w)` float32 with its gradient."""
        raise NotImplementedError

    def forward(self, L_B1HW: Tensor, ab_B2HW: Tensor) -> Losses:
        return self.judged(L_B1HW, ab_B2HW)[0]


class RegressionObjective(ColorObjective):
    """Huber distance between predicted and true ab, in units of 10."""

    def __init__(self, model: ColorModel) -> None:
        super().__init__()
        self.model = model

    def judged(self, L_B1HW: Tensor, ab_B2HW: Tensor) -> tuple[Losses, Tensor]:
        predicted = self.model(L_B1HW)
        return {"loss": _huber(predicted, shrink(ab_B2HW, predicted.shape[2:]))}, predicted


class BinObjective(ColorObjective):
    """Cross-entropy with soft targets, rare colors weighted up, plus the Huber distance of the decoded ab.

    Zhang, Isola and Efros, "Colorful Image Colorization" (2016), sections 2.1 and 2.2: a target color is spread
    over its nearest bins by a Gaussian, and a pixel weighs the more the rarer its nearest bin is: see
    `rebalancing`.
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

    def judged(self, L_B1HW: Tensor, ab_B2HW: Tensor) -> tuple[Losses, Tensor]:
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
    """Mean color of each cell of a coarser grid of `sides` (height, width)."""
    return F.adaptive_avg_pool2d(ab_B2HW, (sides[0], sides[1]))


def count_bins(ab_B2HW: Tensor, bins_Q2: Tensor) -> Tensor:
    """How many pixels lie nearest to each bin: `(Q,)`, float."""
    ab_N2 = ab_B2HW.permute(0, 2, 3, 1).reshape(-1, 2)
    nearest = torch.cdist(ab_N2, bins_Q2).argmin(dim=1)
    return torch.bincount(nearest, minlength=len(bins_Q2)).float()


def rebalancing(prior_Q: Tensor, uniform: float, power: float) -> Tensor:
    """Weight of a pixel whose nearest bin is q: `((1 - uniform) * prior + uniform / Q) ** -power`, mean 1.

    The paper's power is 1, which makes small networks gaudy; 0 is no rebalancing.

    Args:
        prior_Q: counts or frequencies of the bins in the training images.
        uniform: how far the prior is evened out first, so that the rarest bins do not rule.
        power: in [0, 1].
    """
    prior = prior_Q / prior_Q.sum()
    weights = ((1 - uniform) * prior + uniform / len(prior)) ** -power
    return weights / (prior * weights).sum()


def soft_targets(bins_Q2: Tensor, neighbors: int, sigma: float) -> Tensor:
    """The distribution over bins of each cell's color: `(cells, Q)`; rows sum to 1. See `cell_index`."""
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
