"""The optimizers that a configuration can name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from colorize.models import ColorModel
from colorize.training.settings import OptimizerSettings

_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    # Fused: one pass over weights and moments; a large dense layer learns in half the time.
    "adamw": partial(torch.optim.AdamW, fused=True),
    "adam": partial(torch.optim.Adam, fused=True),
    # The decay rates of Hinton's lecture and of Zeiler's paper (2012), which are Keras' defaults; torch has others.
    "rmsprop": partial(torch.optim.RMSprop, alpha=0.9),
    "adadelta": partial(torch.optim.Adadelta, rho=0.95),
}


def create_optimizer(model: ColorModel, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimizer named; the encoder learns slower, and biases and normalizations are not decayed."""
    encoder = {parameter for stage in model.encoder_stages() for parameter in stage.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            factor = settings.encoder_factor if parameter in encoder else 1.0
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((factor, decay), []).append(parameter)
    return _OPTIMIZERS[settings.name](
        [{"params": p, "factor": f, "weight_decay": d} for (f, d), p in groups.items()],
        lr=settings.learning_rate,
    )
