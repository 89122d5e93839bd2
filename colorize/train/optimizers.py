"""The optimizers."""

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
    # Fused: halves the time of large linear layers.
    "adamw": partial(torch.optim.AdamW, fused=True),
    "adam": partial(torch.optim.Adam, fused=True),
    # Decay rates as in Hinton's lecture, Zeiler's paper (2012) and Keras; torch has other defaults.
    "rmsprop": partial(torch.optim.RMSprop, alpha=0.9),
    "adadelta": partial(torch.optim.Adadelta, rho=0.95),
}


def create_optimizer(
    model: ColorModel, settings: OptimizerSettings, trained_before: bool = False
) -> torch.optim.Optimizer:
    """Creates the optimizer, without weight decay for biases and normalizations.

    Args:
        model: the network to train.
        settings: of the optimizer.
        trained_before: apply `encoder_factor`, since the encoder is pretrained.
    """
    encoder = {parameter for stage in model.encoder_stages() for parameter in stage.parameters()}
    kinds: dict[tuple[bool, bool], list[nn.Parameter]] = {}  # independent of the rates: see `load_optimizer`
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
    """Loads the saved moments, but keeps the optimizer's own rates.

    Raises:
        UsageError: an earlier version saved other parameter groups.
    """
    rates = [{name: group[name] for name in ("factor", "weight_decay")} for group in optimizer.param_groups]
    sizes = [[len(group["params"]) for group in groups] for groups in (optimizer.param_groups, saved["param_groups"])]
    if sizes[0] != sizes[1]:
        raise UsageError(
            "an earlier version started this run: start from its weights (model.weights) in a new --output"
        )
    optimizer.load_state_dict(saved)
    for group, ours in zip(optimizer.param_groups, rates, strict=True):
        group.update(ours)
