"""Adversarial training: the generator's objective, and the discriminator's step.

The discriminator is not trained while its accuracy exceeds `max_accuracy`, and gets noisy input in some epochs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from colorize.models.base import AB_SCALE
from colorize.models.gan import Discriminator
from colorize.train.losses import ColorObjective, Losses, shrink
from colorize.train.settings import AdversarialSettings
from colorize.train.workers import mean_over_workers


class AdversarialObjective(ColorObjective):
    """The generator's loss: BCE on flipped labels, plus a weighted regression loss.

    The weight also applies before the adversary joins, so that only the new term changes then.
    """

    def __init__(self, objective: ColorObjective, adversary: Adversary) -> None:
        super().__init__()
        self.objective, self.adversary = objective, adversary
        self.discriminator = adversary.discriminator.requires_grad_(False)

    def losses_and_ab(self, L_B1HW: Tensor, ab_B2HW: Tensor) -> tuple[Losses, Tensor]:
        losses, predicted = self.objective.losses_and_ab(L_B1HW, ab_B2HW)
        distance = losses["loss"]
        losses |= {"loss": self.adversary.settings.loss_weight * distance, "distance": distance.detach()}
        if self.adversary.joined:
            verdict = self.discriminator(scaled_lab(shrink(L_B1HW, predicted.shape[2:]), predicted)).float()
            deception = F.binary_cross_entropy_with_logits(verdict, torch.ones_like(verdict))
            losses |= {"loss": losses["loss"] + deception, "deception": deception.detach()}
        return losses, predicted


@dataclass
class Adversary:
    """The discriminator and its optimizer. Its parameters require gradients in `train_discriminator` only.

    Attributes:
        joined: whether it is in use yet; see `AdversarialSettings.after`.
    """

    discriminator: nn.Module
    optimizer: torch.optim.Optimizer
    settings: AdversarialSettings
    joined: bool = True

    def state_dict(self) -> dict[str, Any]:
        """The state to resume from."""
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Resume from `state_dict`."""
        self.discriminator.load_state_dict(saved["discriminator"])
        self.optimizer.load_state_dict(saved["optimizer"])


def create_adversary(settings: AdversarialSettings, device: str | torch.device) -> Adversary:
    """An untrained discriminator with its optimizer."""
    discriminator = Discriminator(settings.width).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Adversary(
        discriminator, torch.optim.Adam(discriminator.parameters(), settings.learning_rate, fused=True), settings
    )


def train_discriminator(
    adversary: Adversary, L_B1HW: Tensor, fake_B2HW: Tensor, true_B2HW: Tensor, noise: float
) -> Losses:
    """One step on colorized images and photographs, unless its accuracy is too high.

    Args:
        adversary: changed in place.
        L_B1HW: L* of the images.
        fake_B2HW: the generator's ab, without gradient; its size is used for all.
        true_B2HW: the photographs' ab.
        noise: standard deviation of the input noise; see `noise_in_epoch`.

    Returns:
        `discriminator_loss`, `discriminator_accuracy` before the step, `discriminator_trained` (0 or 1).
    """
    adversary.discriminator.requires_grad_(True)
    L_B1HW, true_B2HW = (shrink(x, fake_B2HW.shape[2:]) for x in (L_B1HW, true_B2HW))
    # Separate batches for batch normalization, as in the generator's step.
    fake, true = (_judge(adversary, scaled_lab(L_B1HW, ab), noise) for ab in (fake_B2HW, true_B2HW))
    verdict, label = torch.cat((fake, true)), torch.cat((torch.zeros_like(fake), torch.ones_like(true)))
    loss = F.binary_cross_entropy_with_logits(verdict, label)
    accuracy = mean_over_workers(((verdict > 0) == label.bool()).float().mean())
    too_good = (accuracy > adversary.settings.max_accuracy).float()
    _descend(adversary, loss, too_good)
    adversary.discriminator.requires_grad_(False)
    return {
        "discriminator_loss": loss.detach(),
        "discriminator_accuracy": accuracy,
        "discriminator_trained": 1 - too_good,
    }


def noise_in_epoch(epoch: int, settings: AdversarialSettings) -> float:
    """Standard deviation of the discriminator's input noise in an epoch, counted from 1."""
    return settings.noise if epoch % settings.noise_every == 0 else 0.0


def scaled_lab(L_B1HW: Tensor, ab_B2HW: Tensor) -> Tensor:
    """The discriminator's input: `(B, 3, H, W)`, about [-1, 1]."""
    return torch.cat((L_B1HW / 50 - 1, ab_B2HW / AB_SCALE), dim=1)


def _judge(adversary: Adversary, lab_B3HW: Tensor, noise: float) -> Tensor:
    verdict: Tensor = adversary.discriminator(lab_B3HW + noise * torch.randn_like(lab_B3HW))
    return verdict.float()


def _descend(adversary: Adversary, loss: Tensor, skip: Tensor) -> None:
    """One step, or none if `skip` is 1. The device decides, without synchronization, as with a gradient scaler."""
    adversary.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    for parameter in adversary.discriminator.parameters():
        if parameter.grad is not None:
            parameter.grad = mean_over_workers(parameter.grad)
    adversary.optimizer.found_inf = skip  # type: ignore[attr-defined]  # read by fused optimizers
    adversary.optimizer.step()
