"""One training step: pure torch, on any device, whoever brings the pictures."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from colorize.color import grey_to_lightness, rgb_to_lab
from colorize.models import ColorModel, create_model
from colorize.training.augment import canvas_shape, random_crops, scanned_grey
from colorize.training.losses import create_objective
from colorize.training.settings import OptimizerSettings, TrainSettings


@dataclass
class TrainState:
    """What a step reads and changes.

    Attributes:
        model: the network being trained.
        average: exponential moving average of its weights: what is validated and saved.
        objective: maps (L, ab) to losses; holds `model`. Wrap it for data parallelism.
        optimizer: its learning rate follows `progress`.
        progress: how much of the training is done, in [0, 1]; set by the loop, by steps or by time.
        steps: how many steps were taken.
    """

    settings: TrainSettings
    model: ColorModel
    average: ColorModel
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    progress: float = 0.0
    steps: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs, as tensors, numbers and dictionaries only."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": self.progress,
            "steps": self.steps,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken. Raises RuntimeError for another network's state."""
        self.model.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.progress, self.steps = saved["progress"], saved["steps"]


def create_state(
    settings: TrainSettings, device: str | torch.device = "cpu", prior_Q: Tensor | None = None
) -> TrainState:
    """A network, its optimizer and its objective, at the beginning.

    Raises:
        UsageError: an unknown model or argument.
        ModuleNotFoundError: pretrained weights are asked for and their package is missing.
    """
    torch.manual_seed(settings.seed)
    model = create_model(settings.model.name, **settings.model.args)
    if settings.model.pretrained:
        model.load_pretrained()
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(model).eval().requires_grad_(False)
    for stage in model.encoder_stages()[: settings.model.frozen_stages]:
        stage.requires_grad_(False)
    objective = create_objective(model, settings.loss, prior_Q).to(device)
    return TrainState(settings, model, average, objective, create_optimizer(model, settings.optimizer))


def create_optimizer(model: ColorModel, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """AdamW; the encoder learns slower, and biases and normalizations are not decayed."""
    encoder = {parameter for stage in model.encoder_stages() for parameter in stage.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            factor = settings.encoder_factor if parameter in encoder else 1.0
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((factor, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "factor": f, "weight_decay": d} for (f, d), p in groups.items()],
        lr=settings.learning_rate,
    )


def step(state: TrainState, rgb_B3HW: Tensor) -> dict[str, Tensor]:
    """Augment a batch, descend once, update the average.

    Args:
        state: changed in place.
        rgb_B3HW: sRGB in [0, 1] on the network's device; any size, one for the whole batch.

    Returns:
        Scalars on that device, among them `loss` and `gradient_norm`; reading one waits for the device.
    """
    settings = state.settings
    _set_training_mode(state)
    rate = set_learning_rate(state)
    L, ab = training_pair(rgb_B3HW, current_size(state), state.model.stride, settings)
    with torch.autocast(rgb_B3HW.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
        losses = state.objective(L, ab)
    state.optimizer.zero_grad(set_to_none=True)
    losses["loss"].backward()
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), settings.optimizer.clip_norm)
    state.optimizer.step()
    state.steps += 1
    update_average(state)
    rate_tensor = torch.tensor(rate)
    return {name: v.detach() for name, v in losses.items()} | {"gradient_norm": norm, "learning_rate": rate_tensor}


@torch.no_grad()
def training_pair(rgb_B3HW: Tensor, size: int, stride: int, settings: TrainSettings) -> tuple[Tensor, Tensor]:
    """A network's input and target: L of a damaged grey crop `(B, 1, h, w)` and the crop's ab `(B, 2, h, w)`."""
    shape = canvas_shape(rgb_B3HW.shape[2:], size, stride)
    rgb = random_crops(rgb_B3HW, shape, settings.augment)
    L = grey_to_lightness(scanned_grey(rgb, settings.augment))
    return L.contiguous(memory_format=torch.channels_last), rgb_to_lab(rgb)[:, 1:]


def current_size(state: TrainState) -> int:
    """Pictures grow as training goes on: the schedule's sizes take equal shares of it."""
    sizes = state.settings.schedule.sizes
    return sizes[min(int(state.progress * len(sizes)), len(sizes) - 1)]


def set_learning_rate(state: TrainState) -> float:
    """Linear warm-up, then half a cosine to a hundredth. Returns the rate of what is not pretrained."""
    settings = state.settings.optimizer
    if state.progress < settings.warmup:
        relative = max(state.progress / settings.warmup, 0.01)
    else:
        done = (state.progress - settings.warmup) / (1 - settings.warmup)
        relative = 0.01 + 0.99 * (1 + math.cos(math.pi * min(done, 1.0))) / 2
    for group in state.optimizer.param_groups:
        group["lr"] = settings.learning_rate * relative * group["factor"]
    return settings.learning_rate * relative


@torch.no_grad()
def update_average(state: TrainState) -> None:
    """Move the average towards the weights; early on, when they change fast, in longer strides."""
    decay = min(state.settings.optimizer.ema_decay, (1 + state.steps) / (10 + state.steps))
    ours, theirs = state.average.state_dict(), state.model.state_dict()
    floating = [key for key, value in ours.items() if value.is_floating_point()]
    torch._foreach_lerp_([ours[k] for k in floating], [theirs[k] for k in floating], 1 - decay)
    for key in ours.keys() - set(floating):
        ours[key].copy_(theirs[key])


def _set_training_mode(state: TrainState) -> None:
    state.objective.train()
    for stage in state.model.encoder_stages()[: state.settings.model.frozen_stages]:
        stage.eval()  # frozen means its batch statistics too
