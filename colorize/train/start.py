"""Starts or resumes a run: the network, its state, and statistics of the training images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, distributed

from colorize.errors import UsageError
from colorize.imaging.color import rgb_to_lab
from colorize.metrics import colorfulness
from colorize.models import BinModel, ColorModel, create_model
from colorize.models.palette_cnn import PaletteCnn
from colorize.train.feed import Feed
from colorize.train.losses import count_bins, shrink
from colorize.train.palette import fit_palette, sample_pixels, spread_colors
from colorize.train.run import Record, Run
from colorize.train.settings import TrainSettings
from colorize.train.step import TrainState, compile_objective, create_state
from colorize.train.validation import require_colorful
from colorize.train.workers import sum_over_workers, worker_count

PRIOR_IMAGES = 2048  # enough to estimate color frequencies
PALETTE_BATCHES = 500  # per worker; more than enough, and their pixels stay in memory
PALETTE_SAMPLE = 0.4  # fraction of pixels, as the authors recorded
PALETTE_ITERATIONS = 100  # at most, of Lloyd's algorithm


def start_or_resume(run: Run) -> tuple[TrainState, Record]:
    """The saved state, or a new one.

    Raises:
        UsageError: all images are grey, or an earlier version saved the state.
    """
    saved = run.folder.load_state()
    if saved and "record" not in saved:
        raise UsageError(
            "an earlier version started this run: start from its weights (model.weights) in a new --output"
        )
    record = Record(**saved["record"]) if saved else Record()
    palette = None if saved else _look_at_images(run, record)
    state = create_state(run.settings, run.device, record.prior, palette)
    if saved:
        state.load_state_dict(saved["state"])
    state.objective = compile_objective(run.wrap(state.objective), run.settings)
    return state, record


def _look_at_images(run: Run, record: Record) -> Tensor | None:
    """Checks that the images have color, and collects color frequencies or the palette, if the network needs them."""
    model = create_model(run.settings.model.name, **run.settings.model.args)
    record.prior = count_colors(first_batches(run.feed, run.settings, PRIOR_IMAGES), model)
    if run.rank == 0:
        batches = run.held_out.in_order(run.settings.trainer.batch_size)
        require_color([colorfulness(rgb).mean() for rgb in batches], "held-out")
    return palette_of(run.feed, run.settings, model)


def first_batches(feed: Feed, settings: TrainSettings, images: int) -> Iterator[Tensor]:
    """The first training batches of this worker; about `images` images over all workers."""
    share = min(images, feed.epoch_images) / (worker_count() * settings.trainer.batch_size)
    return itertools.islice(feed.batches(), max(1, math.floor(share)))


def count_colors(batches: Iterable[Tensor], model: ColorModel) -> Tensor | None:
    """Frequencies of the network's color bins, `(Q,)`; None for a network without bins.

    Raises:
        UsageError: the images are grey.
    """
    strengths, counts = list[Tensor](), torch.zeros(len(model.bins_Q2)) if isinstance(model, BinModel) else None
    for rgb in batches:
        strengths.append(colorfulness(rgb).mean())
        if counts is not None and isinstance(model, BinModel):
            ab = rgb_to_lab(rgb)[:, 1:]
            coarse = shrink(ab, (ab.shape[2] // 4, ab.shape[3] // 4))
            counts += count_bins(coarse, model.bins_Q2.to(rgb.device)).cpu()
    require_color(strengths, "training")
    return None if counts is None else sum_over_workers(counts)


def require_color(strengths: Sequence[Tensor], which: str) -> None:
    """Raises UsageError if the images are grey on average. No images are fine."""
    if strengths:
        require_colorful(float(torch.stack(list(strengths)).mean()), which)


def palette_of(feed: Feed, settings: TrainSettings, model: ColorModel) -> Tensor | None:
    """The palette of the training images of all workers, for the network that has one."""
    if not isinstance(model, PaletteCnn):
        return None
    generator = torch.Generator().manual_seed(settings.seed)
    batches = itertools.islice(first_batches(feed, settings, feed.epoch_images), PALETTE_BATCHES)
    chunks = [sample_pixels(rgb.cpu(), PALETTE_SAMPLE, generator) for rgb in batches]
    start = spread_colors(torch.cat(chunks), len(model.palette_K3), generator)
    if worker_count() > 1:
        distributed.broadcast(start, src=0)
    return fit_palette(chunks, start, PALETTE_ITERATIONS)
