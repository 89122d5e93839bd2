"""The optimizers that a configuration can name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from colorize.errors import UsageError
from colorize.models import ColorModel
from colorize.train.settings import OptimizerSettings

_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    # Fused: one pass over weights and moments; a large dense layer learns in half the time.
    "adamw": partial(torch.optim.AdamW, fused=True),
    "adam": partial(torch.optim.Adam, fused=True),
    # The decay rates of Hinton's lecture and of Zeiler's paper (2012), which are Keras' defaults; torch has others.
    "rmsprop": partial(torch.optim.RMSprop, alpha=0.9),
    "adadelta": partial(torch.optim.Adadelta, rho=0.95),
}


def create_optimizer(
    model: ColorModel, settings: OptimizerSettings, trained_before: bool = False
) -> torch.optim.Optimizer:
    """The optimizer named; biases and normalizations are not decayed.

    Args:
        model: to be trained.
        settings: rates, which every parameter group carries as `factor` and `weight_decay`.
        trained_before: its encoder has learned already, and so learns slower.
    """
    encoder = {parameter for stage in model.encoder_stages() for parameter in stage.parameters()}
    kinds: dict[tuple[bool, bool], list[nn.Parameter]] = {}  # the same whatever the rates: see `load_optimizer`
    for parameter in model.parameters():
        if parameter.requires_grad:
            kinds.setdefault((parameter in encoder, parameter.ndim > 1), []).append(parameter)
    groups = [
        {
            "params": parameters,
            "factor": settings.encoder_factor if encodes and trained_before else 1.0,
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (encodes, decays), parameters in kinds.items()
    ]
    return _OPTIMIZERS[settings.name](groups, lr=settings.learning_rate)


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Go on with the saved moments, but at the optimizer's own rates: torch takes the saved ones over.

    Raises:
        UsageError: the saved optimizer groups the parameters otherwise, as earlier versions did.
    """
    rates = [{name: group[name] for name in ("factor", "weight_decay")} for group in optimizer.param_groups]
    sizes = [[len(group["params"]) for group in groups] for groups in (optimizer.param_groups, saved["param_groups"])]
    if sizes[0] != sizes[1]:
        raise UsageError("an earlier version began this run: start from its weights (model.weights) in a new --output")
    optimizer.load_state_dict(saved)
    for group, ours in zip(optimizer.param_groups, rates, strict=True):
        group.update(ours)
