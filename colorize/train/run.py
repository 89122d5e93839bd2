"""The inputs of the training loop, from a Ray worker or a single process."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from colorize.train.feed import Feed
from colorize.train.images import DecodedImages
from colorize.train.progress import Reporter
from colorize.train.run_folder import RunFolder
from colorize.train.settings import TrainSettings
from colorize.train.workers import worker_count


@dataclass(frozen=True)
class Run:
    """One worker's part of a training run.

    Attributes:
        folder: for results and the state to resume from.
        feed: this worker's images.
        device: of the network and of the feed's batches.
        rank: of this worker.
        wrap: makes the objective data-parallel.
    """

    settings: TrainSettings
    folder: RunFolder
    feed: Feed
    device: torch.device
    reporter: Reporter
    rank: int = 0
    wrap: Callable[[nn.Module], nn.Module] = lambda objective: objective

    @cached_property
    def held_out(self) -> DecodedImages:
        """The images of the split `val`."""
        return self.feed.held_out("val")

    @cached_property
    def epoch_steps(self) -> int:
        """Steps per epoch, equal on all workers."""
        trainer = self.settings.trainer
        return trainer.epoch_steps or math.ceil(self.feed.epoch_images / (trainer.batch_size * worker_count()))


@dataclass
class Record:
    """The progress of a run, saved with the network's state.

    Attributes:
        epoch: number of completed epochs.
        taken: steps in the current epoch.
        means: of those steps; see `MetricAverager.state_dict`.
        seconds: spent in steps, over all attempts.
        best: the best quality of an epoch; see `quality_of`.
        prior: frequencies of color bins at the start, `(Q,)`, for networks with bins.
        history: the rows of `metrics.csv`.
    """

    epoch: int = 0
    taken: int = 0
    means: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    best: float = float("-inf")
    prior: Tensor | None = None
    history: list[dict[str, float]] = field(default_factory=list)
