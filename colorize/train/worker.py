"""What Ray Train runs on each worker: the loop, fed by the worker's shard, telling the driver how it goes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import get_device, prepare_model
from torch import nn

from colorize.datasets.splits import Split
from colorize.errors import StoppedError, UsageError
from colorize.storage.root import Storage
from colorize.train.decode import Row, picture_bytes
from colorize.train.device import keeps_on_gpu, make_ready
from colorize.train.feed import Feed, MemoryFeed, StreamFeed
from colorize.train.loop import train
from colorize.train.pictures import Pictures, keep
from colorize.train.progress import Progress
from colorize.train.rows import rows_of
from colorize.train.run import Run
from colorize.train.run_folder import RunFolder
from colorize.train.settings import DataSettings, TrainSettings

ROWS = 128  # that are taken from the object store at once


@dataclass(frozen=True)
class WorkerConfig:
    """What the driver tells every worker.

    Attributes:
        storage: of the run folder.
        pictures: that an epoch has, about.
        streams: they are decoded anew in each epoch; else kept in memory.
        board: an actor of `Board`.
    """

    settings: TrainSettings
    storage: Storage
    pictures: int
    streams: bool
    board: Any


@dataclass(frozen=True)
class BoardReporter:
    """Tells the board, and Ray Train; all workers wait for each other at the end of an epoch."""

    board: Any

    def progress(self, progress: Progress) -> None:
        self.board.progress.remote(progress)

    def epoch(self, figures: Mapping[str, float]) -> None:
        if figures:
            self.board.epoch.remote(dict(figures))
        ray.train.report(dict(figures))

    def stopped(self) -> bool:
        first = ray.train.get_context().get_world_rank() == 0
        return first and bool(ray.get(self.board.stopped.remote()))


def train_worker(arguments: dict[str, Any]) -> None:
    """Trains from the last saved state, if there is one, to the end.

    Ray starts it anew after any error. Where that would not help, it leaves word in the run folder, and ends at once
    when it finds some: the driver says why.
    """
    config: WorkerConfig = arguments["config"]
    folder = RunFolder(config.storage, config.settings)
    if folder.failure():
        return
    try:
        train(run_of(config, folder))
    except (StoppedError, UsageError) as error:
        folder.write_failure(str(error))
        raise


def run_of(config: WorkerConfig, folder: RunFolder) -> Run:
    """This worker's part of the training."""
    context, device = ray.train.get_context(), get_device()
    make_ready(device)
    if device.type == "cpu" and not config.streams:  # Ray counts threads by what is left over for decoding
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // context.get_local_world_size()))
    feed = _feed(config, device, context.get_world_rank())
    return Run(
        config.settings, folder, feed, device, BoardReporter(config.board), context.get_world_rank(), data_parallel
    )


def data_parallel(objective: nn.Module) -> nn.Module:
    """Averages gradients over the workers; buffers are the same on all, or only the first one's are saved."""
    wrapped: nn.Module = prepare_model(objective, parallel_strategy_kwargs={"broadcast_buffers": False})
    return wrapped


def _feed(config: WorkerConfig, device: torch.device, rank: int) -> Feed:
    data, batch, seed = config.settings.data, config.settings.trainer.batch_size, config.settings.seed

    def held_out(split: Split) -> Pictures:
        return keep(shard_rows(split, data), data, device)

    if config.streams:
        return StreamFeed(lambda: shard_rows("train", data), held_out, config.pictures, data, batch, device, seed, rank)
    share = config.pictures * picture_bytes(data) / ray.train.get_context().get_world_size()
    kept = keep(shard_rows("train", data), data, device if keeps_on_gpu(share, device) else "cpu")
    return MemoryFeed(kept, held_out, batch, device, seed, rank)


def shard_rows(split: Split, data: DataSettings) -> Iterator[Row]:
    """One pass over this worker's share of a split."""
    shard = ray.train.get_dataset_shard(split)
    for table in shard.iter_batches(batch_size=ROWS, batch_format="pyarrow", prefetch_batches=2):
        yield from rows_of(table, data)
