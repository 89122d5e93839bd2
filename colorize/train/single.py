"""Training in one process, without Ray: `colorize train --no-ray`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import psutil
import torch

from colorize.datasets.sources import Source
from colorize.datasets.splits import Split
from colorize.errors import UsageError
from colorize.predict.opening import available_cpus
from colorize.train.decode import Row, image_bytes
from colorize.train.device import choose_device, keeps_on_gpu
from colorize.train.display import Display, interruptible
from colorize.train.epoch_plan import EpochPlan, fits_in_memory, plan_epoch
from colorize.train.feed import Feed, MemoryFeed, StreamFeed
from colorize.train.images import DecodedImages, collect_images
from colorize.train.loop import train
from colorize.train.reading import open_training_source, read_rows, shuffled_blocks, split_reader
from colorize.train.run import Run
from colorize.train.run_folder import RunFolder
from colorize.train.settings import TrainSettings
from colorize.train.step import check_settings


def train_alone(
    settings: TrainSettings, data: str, output: str, resume: bool = False, quiet: bool = False
) -> dict[str, float]:
    """Trains to the end on a GPU if available, else on CPUs; returns the last epoch's metrics.

    Raises:
        UsageError: unusable data, output or settings.
        StoppedError: training diverged or was interrupted.
    """
    if settings.trainer.workers > 1:
        raise UsageError(f"trainer.workers={settings.trainer.workers}: without Ray there is one; drop --no-ray")
    device = choose_device(settings.trainer.device)
    check_settings(settings)  # fail before images are read
    source = open_training_source(data, settings.data)
    plan = plan_epoch(source, settings.data)
    folder = RunFolder(output, settings).claim(resume)
    with Display(quiet) as display, interruptible(display):
        if warning := plan.warning(settings.model):
            display.warn(warning)
        display.log(f"reading {plan.images} images")
        feed = open_feed(source, settings, plan, device)
        run = Run(settings, folder, feed, device, display)
        display.log(f"{feed.epoch_images} images, {len(run.held_out)} held out, on {device.type}")
        return train(run)


def open_feed(source: Source, settings: TrainSettings, plan: EpochPlan, device: torch.device) -> Feed:
    """Keeps all images in memory, on the GPU if they fit, or streams them."""
    threads = available_cpus()
    blocks, batch, seed = shuffled_blocks(source, settings), settings.trainer.batch_size, settings.seed

    def rows(split: Split, repeats: bool = False) -> Iterator[Row]:
        return read_rows(blocks, split_reader(source, split, settings, plan, repeats), threads)

    def held_out(split: Split) -> DecodedImages:
        return collect_images(rows(split), settings.data, device)

    if fits_in_memory(plan, settings.data, psutil.virtual_memory().available):
        home = device if keeps_on_gpu(plan.images * image_bytes(settings.data), device) else "cpu"
        return MemoryFeed(collect_images(rows("train"), settings.data, home), held_out, batch, device, seed)
    again = partial(rows, "train", repeats=True)
    return StreamFeed(again, held_out, plan.images, settings.data, batch, device, seed)
