"""One training step, in pure torch."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from colorize.errors import UsageError
from colorize.imaging.color import grey_to_lightness, luma, rgb_to_lab
from colorize.models import ColorModel, RgbModel
from colorize.models.palette_cnn import PaletteCnn
from colorize.predict.torch_network import has_bfloat16
from colorize.train.adversarial import (
    AdversarialObjective,
    Adversary,
    create_adversary,
    noise_in_epoch,
    train_discriminator,
)
from colorize.train.augment import canvas_shape, random_crops, scanned_grey
from colorize.train.initial import initial_network
from colorize.train.losses import ColorObjective, Losses, shrink
from colorize.train.objectives import create_objective
from colorize.train.optimizers import create_optimizer, load_optimizer
from colorize.train.settings import TrainSettings
from colorize.train.validation import metric_names

TensorPairs = tuple[list[Tensor], list[Tensor]]


@dataclass
class TrainState:
    """The state that a step changes.

    Attributes:
        model: the network being trained.
        average: exponential moving average of its weights, for validation and checkpoints.
        objective: maps (L, ab), or (L, sRGB) for an `RgbModel`, to losses; contains `model`. Wrap it for data
            parallelism.
        optimizer: its learning rate follows `progress`.
        adversary: the discriminator of adversarial training.
        progress: fraction of the training that is done, in [0, 1]; set by the loop.
        steps: number of steps taken.
        epoch: from 1 on; set by the loop.
    """

    settings: TrainSettings
    model: ColorModel
    average: ColorModel
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    adversary: Adversary | None = None
    progress: float = 0.0
    steps: int = 0
    epoch: int = 1

    @cached_property
    def averaged(self) -> tuple[TensorPairs, TensorPairs]:
        """Pairs of tensors of `average` and `model`: those to average, and those to copy."""
        pairs = list(zip(self.average.state_dict().values(), self.model.state_dict().values(), strict=True))
        kinds = ([pair for pair in pairs if pair[0].is_floating_point() == floating] for floating in (True, False))
        averaged, copied = (([ours for ours, _ in kind], [theirs for _, theirs in kind]) for kind in kinds)
        return averaged, copied

    def state_dict(self) -> dict[str, Any]:
        """The state to resume from, as tensors, numbers and dictionaries only."""
        saved = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": self.progress,
            "steps": self.steps,
        }
        return saved | ({"adversary": self.adversary.state_dict()} if self.adversary else {})

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Resumes from `state_dict`, with the current settings.

        Raises:
            UsageError: an earlier version saved the state.
            RuntimeError: it is the state of another network.
        """
        self.model.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        load_optimizer(self.optimizer, saved["optimizer"])
        if self.adversary:
            self.adversary.load_state_dict(saved["adversary"])
        self.progress, self.steps = saved["progress"], saved["steps"]


def check_settings(settings: TrainSettings) -> None:
    """Raises UsageError where `create_state` would; without an optimizer, the first of which imports for 2 seconds."""
    model = initial_network(settings.model)
    _check_fit(model, settings)
    _create_objective(model, settings, "cpu", None)


def create_state(
    settings: TrainSettings,
    device: str | torch.device = "cpu",
    prior_Q: Tensor | None = None,
    palette_K3: Tensor | None = None,
) -> TrainState:
    """A new network with its optimizer and objective.

    Args:
        settings: of the run.
        device: to train on.
        prior_Q: frequencies of color bins in the training images, for networks with bins.
        palette_K3: sRGB palette of the training images, in [0, 1], for a new `palette_cnn`.

    Raises:
        UsageError: unavailable network or weights, or a loss, sizes or `validation.best` that do not fit the model.
    """
    torch.manual_seed(settings.seed)
    model = initial_network(settings.model)
    _check_fit(model, settings)
    if palette_K3 is not None and isinstance(model, PaletteCnn) and settings.model.weights is None:
        model.palette_K3.copy_(palette_K3)
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(model).eval().requires_grad_(False)
    for stage in model.encoder_stages()[: settings.model.frozen_stages]:
        stage.requires_grad_(False)
    objective, adversary = _create_objective(model, settings, device, prior_Q)
    trained_before = settings.model.pretrained or settings.model.weights is not None
    optimizer = create_optimizer(model, settings.optimizer, trained_before)
    return TrainState(settings, model, average, objective.to(device), optimizer, adversary)


def _create_objective(
    model: ColorModel, settings: TrainSettings, device: str | torch.device, prior_Q: Tensor | None
) -> tuple[nn.Module, Adversary | None]:
    objective = create_objective(model, settings.loss, prior_Q)
    if settings.adversarial is None:
        return objective, None
    if not isinstance(objective, ColorObjective):
        raise UsageError(f"adversarial: {settings.model.name} does not predict ab itself; set adversarial=null")
    adversary = create_adversary(settings.adversarial, device)
    return AdversarialObjective(objective, adversary), adversary


def _check_fit(model: ColorModel, settings: TrainSettings) -> None:
    canvas, sizes = model.canvas, settings.trainer.sizes
    if canvas and (set(sizes) | {settings.validation.size}) != {canvas}:
        raise UsageError(
            f"model {settings.model.name} requires {canvas} x {canvas} pixels, not trainer.sizes={sizes} and "
            f"validation.size={settings.validation.size}: set them to [{canvas}] and {canvas}"
        )
    names, best = metric_names(model), settings.validation.best
    if best not in names:
        raise UsageError(f"validation.best={best}: the metrics of this network are {', '.join(names)}")


def step(state: TrainState, rgb_B3HW: Tensor) -> dict[str, Tensor]:
    """Augments a batch, takes an optimizer step, updates the average.

    Args:
        state: changed in place.
        rgb_B3HW: sRGB in [0, 1] of any size, on the network's device.

    Returns:
        Scalars on that device, including `loss` and `gradient_norm`.
    """
    settings = state.settings
    state.objective.train()
    for stage in state.model.encoder_stages()[: settings.model.frozen_stages]:
        stage.eval()  # freezes batch statistics, too
    rate = set_learning_rate(state)
    if state.adversary:
        state.adversary.joined = state.progress >= state.adversary.settings.after
    L, target = _pair_for(state.model, rgb_B3HW, current_size(state), settings)
    with autocast(rgb_B3HW.device, settings):
        losses = state.objective(L, target)
    state.optimizer.zero_grad(set_to_none=True)
    losses["loss"].backward()
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), settings.optimizer.clip_norm or math.inf)
    state.optimizer.step()
    if state.adversary and state.adversary.joined:
        losses |= _train_adversary(state, state.adversary, L, target)
    state.steps += 1
    update_average(state)
    rate_tensor = torch.tensor(rate)
    return {name: v.detach() for name, v in losses.items()} | {"gradient_norm": norm, "learning_rate": rate_tensor}


def autocast(device: torch.device, settings: TrainSettings) -> torch.autocast:
    """Autocast for `precision`."""
    bfloat16 = settings.precision == "bfloat16" or (settings.precision == "auto" and has_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)


@torch.no_grad()
def training_pair(rgb_B3HW: Tensor, size: int, stride: int, settings: TrainSettings) -> tuple[Tensor, Tensor]:
    """Input and target: L of an augmented grey crop `(B, 1, h, w)`, and the crop's ab `(B, 2, h, w)`.

    Where augmentation darkens the image, the target's chroma is reduced with L* + 16, as under less light (CIE 1976).
    """
    rgb = random_crops(rgb_B3HW, canvas_shape(rgb_B3HW.shape[2:], size, stride), settings.augment)
    scan, tones = scanned_grey(rgb, settings.augment)
    darker = (grey_to_lightness(tones) + 16) / (grey_to_lightness(luma(rgb)) + 16)
    L = grey_to_lightness(scan).contiguous(memory_format=torch.channels_last)
    return L, rgb_to_lab(rgb)[:, 1:] * darker.clamp(max=1)


@torch.no_grad()
def rgb_pair(
    rgb_B3HW: Tensor, size: int, stride: int, settings: TrainSettings, enlarges: int = 1
) -> tuple[Tensor, Tensor]:
    """L of an augmented grey crop `(B, 1, h, w)`, and the crop's sRGB, `enlarges` times as large."""
    shape = canvas_shape(rgb_B3HW.shape[2:], size, stride)
    rgb = random_crops(rgb_B3HW, (shape[0] * enlarges, shape[1] * enlarges), settings.augment)
    grey, _ = scanned_grey(rgb, settings.augment)
    L = grey_to_lightness(shrink(grey, shape) if enlarges > 1 else grey)
    return L.contiguous(memory_format=torch.channels_last), rgb


def _pair_for(model: ColorModel, rgb_B3HW: Tensor, size: int, settings: TrainSettings) -> tuple[Tensor, Tensor]:
    if isinstance(model, RgbModel):
        return rgb_pair(rgb_B3HW, size, model.stride, settings, model.enlarges)
    return training_pair(rgb_B3HW, size, model.stride, settings)


def _train_adversary(state: TrainState, adversary: Adversary, L: Tensor, ab: Tensor) -> Losses:
    with autocast(L.device, state.settings):
        with torch.no_grad():
            fake = state.model(L)
        return train_discriminator(adversary, L, fake, ab, noise_in_epoch(state.epoch, adversary.settings))


def current_size(state: TrainState) -> int:
    """Progressive resizing: each of `trainer.sizes` takes an equal share of the training."""
    sizes = state.settings.trainer.sizes
    return sizes[min(int(state.progress * len(sizes)), len(sizes) - 1)]


def set_learning_rate(state: TrainState) -> float:
    """Linear warm-up, then cosine annealing to 1 %, or none. Returns the base rate."""
    settings = state.settings.optimizer
    relative = 1.0
    if state.progress < settings.warmup:
        relative = max(state.progress / settings.warmup, 0.01)
    elif settings.annealing == "cosine":
        done = (state.progress - settings.warmup) / (1 - settings.warmup)
        relative = 0.01 + 0.99 * (1 + math.cos(math.pi * min(done, 1.0))) / 2
    for group in state.optimizer.param_groups:
        group["lr"] = settings.learning_rate * relative * group["factor"]
    return settings.learning_rate * relative


@torch.no_grad()
def update_average(state: TrainState) -> None:
    """Updates the moving average, with a lower decay in the first steps."""
    if not state.settings.optimizer.ema_decay:
        return  # see `finalize_average`: copying in every step costs large networks a tenth of the time
    decay = min(state.settings.optimizer.ema_decay, (1 + state.steps) / (10 + state.steps))
    (averages, weights), (counters, counted) = state.averaged
    torch._foreach_lerp_(averages, weights, 1 - decay)
    if counters:  # of batch norm
        torch._foreach_copy_(counters, counted)


def finalize_average(state: TrainState) -> None:
    """Without averaging, copies the weights to `average`. Call it before using `average`."""
    if not state.settings.optimizer.ema_decay:
        state.average.load_state_dict(state.model.state_dict())


def compile_objective(objective: nn.Module, settings: TrainSettings) -> nn.Module:
    """The objective, compiled for each image shape if the settings ask for it.

    Dynamic shapes would be slower, and beyond `recompile_limit` torch silently stops compiling.
    """
    if not settings.trainer.compile:
        return objective
    shapes = len(settings.data.aspects) * len(set(settings.trainer.sizes))
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 2 * shapes)
    return torch.compile(objective, dynamic=False)  # type: ignore[return-value]
