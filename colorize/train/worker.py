"""The Ray Train worker: runs the loop on the worker's shard and reports to the driver."""

from __future__ import annotations

import time
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
from colorize.predict.opening import available_cpus
from colorize.storage.root import Storage
from colorize.train.decode import Row, image_bytes
from colorize.train.device import configure_device, keeps_on_gpu
from colorize.train.feed import Feed, MemoryFeed, StreamFeed
from colorize.train.images import DecodedImages, collect_images
from colorize.train.loop import train
from colorize.train.progress import Progress
from colorize.train.rows import rows_of
from colorize.train.run import Run
from colorize.train.run_folder import RunFolder
from colorize.train.settings import DataSettings, TrainSettings

ROWS = 128  # taken from the object store at once
ASK_SECONDS = 1.0


@dataclass(frozen=True)
class WorkerConfig:
    """The parameters of the workers.

    Attributes:
        storage: of the run folder.
        epoch_images: approximate number of images per epoch.
        streams: decode images again in each epoch instead of keeping them in memory.
        progress: handle of a `ProgressActor`.
    """

    settings: TrainSettings
    storage: Storage
    epoch_images: int
    streams: bool
    progress: Any


class ActorReporter:
    """Reports to the `ProgressActor` and to Ray Train. Workers wait for each other at the end of an epoch."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self._stop, self._asked = False, time.monotonic()

    def progress(self, progress: Progress) -> None:
        self.actor.progress.remote(progress)

    def epoch(self, figures: Mapping[str, float]) -> None:
        if figures:
            self.actor.epoch.remote(dict(figures))
        ray.train.report(dict(figures))

    def should_stop(self) -> bool:
        """Asks the driver at most once a second: an answer takes as long as a step of a small network."""
        if ray.train.get_context().get_world_rank() == 0 and time.monotonic() - self._asked > ASK_SECONDS:
            self._stop, self._asked = bool(ray.get(self.actor.should_stop.remote())), time.monotonic()
        return self._stop


def train_worker(arguments: dict[str, Any]) -> None:
    """Trains from the last saved state, if any, to the end.

    Ray retries after any error. If a retry would not help, the error is recorded, and the next attempt ends at once.
    """
    config: WorkerConfig = arguments["config"]
    if ray.get(config.progress.failure.remote()):
        return
    try:
        train(run_of(config))
    except StoppedError as error:  # on all workers
        ray.get(config.progress.fail.remote(error))
    except UsageError as error:  # perhaps only here: the others must not wait
        ray.get(config.progress.fail.remote(error))
        raise


def run_of(config: WorkerConfig) -> Run:
    """This worker's part of the training run."""
    context, device = ray.train.get_context(), get_device()
    configure_device(device)
    if device.type == "cpu":
        torch.set_num_threads(_threads(config.streams))
    rank, folder = context.get_world_rank(), RunFolder(config.storage, config.settings)
    feed, reporter = _feed(config, device, rank), ActorReporter(config.progress)
    return Run(config.settings, folder, feed, device, reporter, rank, data_parallel)


def _threads(streams: bool) -> int:
    """CPU threads: all of the machine's if nothing is decoded during training, else the assigned ones."""
    machine = available_cpus() // ray.train.get_context().get_local_world_size()
    given = ray.get_runtime_context().get_assigned_resources().get("CPU", 1.0)
    return max(1, int(given) if streams else machine)


def data_parallel(objective: nn.Module) -> nn.Module:
    """Averages gradients over the workers. Buffers are not synchronized: only the first worker saves them."""
    wrapped: nn.Module = prepare_model(objective, parallel_strategy_kwargs={"broadcast_buffers": False})
    return wrapped


def _feed(config: WorkerConfig, device: torch.device, rank: int) -> Feed:
    data, batch, seed = config.settings.data, config.settings.trainer.batch_size, config.settings.seed

    def held_out(split: Split) -> DecodedImages:
        return collect_images(shard_rows(split, data), data, device)

    if config.streams:
        return StreamFeed(
            lambda: shard_rows("train", data), held_out, config.epoch_images, data, batch, device, seed, rank
        )
    share = config.epoch_images * image_bytes(data) / ray.train.get_context().get_world_size()
    kept = collect_images(shard_rows("train", data), data, device if keeps_on_gpu(share, device) else "cpu")
    return MemoryFeed(kept, held_out, batch, device, seed, rank)


def shard_rows(split: Split, data: DataSettings) -> Iterator[Row]:
    """One pass over this worker's shard of a split."""
    shard = ray.train.get_dataset_shard(split)
    for table in shard.iter_batches(batch_size=ROWS, batch_format="pyarrow", prefetch_batches=2):
        yield from rows_of(table, data)
