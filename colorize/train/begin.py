"""How a run begins, or goes on: the network with what it must know of the images, in the state that was saved."""

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
from colorize.train.step import TrainState, compiled, create_state
from colorize.train.workers import sum_over_workers, worker_count

PRIOR_PICTURES = 2048  # about so many are enough to know how often each color occurs
PALETTE_BATCHES = 500  # of each worker: the colors settle long before, and their pixels stay in memory
PALETTE_ITERATIONS = 100  # of Lloyd's algorithm at most; it ends when no color moves
COLORLESS = 0.1  # colorfulness below which images are grey


def begin(run: Run) -> tuple[TrainState, Record]:
    """The network on this worker's device, as saved or as settings and images have it start.

    Raises:
        UsageError: all images are grey, or an earlier version saved the state.
    """
    saved = run.folder.load_state()
    if saved and "record" not in saved:
        raise UsageError("an earlier version began this run: start from its weights (model.weights) in a new --output")
    record = Record(**saved["record"]) if saved else Record()
    palette = None if saved else _look_at_images(run, record)
    state = create_state(run.settings, run.device, record.prior, palette)
    if saved:
        state.load_state_dict(saved["state"])
    state.objective = compiled(run.wrap(state.objective), run.settings)
    return state, record


def _look_at_images(run: Run, record: Record) -> Tensor | None:
    """What must be known of them before the first step: that they have colors, which ones, or a palette of them."""
    model = create_model(run.settings.model.name, **run.settings.model.args)
    record.prior = count_colors(first_batches(run.feed, run.settings, PRIOR_PICTURES), model)
    if run.rank == 0:
        batches = run.held_out.in_order(run.settings.trainer.batch_size)
        require_color([colorfulness(rgb).mean() for rgb in batches], "held-out")
    return palette_of(run.feed, run.settings, model)


def first_batches(feed: Feed, settings: TrainSettings, images: int) -> Iterator[Tensor]:
    """A sample of the training images of all workers, drawn as in training; the same ones in every run."""
    share = min(images, feed.images) / (worker_count() * settings.trainer.batch_size)
    return itertools.islice(feed.batches(), max(1, math.floor(share)))


def count_colors(batches: Iterable[Tensor], model: ColorModel) -> Tensor | None:
    """How often each of the network's color bins occurs, `(Q,)`; None for a network without bins.

    Raises:
        UsageError: there are no colors.
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
    """Raises UsageError for images whose colorfulness says that all are grey; none are no fault."""
    if strengths and float(torch.stack(list(strengths)).mean()) < COLORLESS:
        raise UsageError(f"the {which} images are all grey: --data must hold color images")


def palette_of(feed: Feed, settings: TrainSettings, model: ColorModel) -> Tensor | None:
    """The training images' palette, for the network that has one: every worker counts its own images."""
    if not isinstance(model, PaletteCnn):
        return None
    generator = torch.Generator().manual_seed(settings.seed)
    batches = itertools.islice(first_batches(feed, settings, feed.images), PALETTE_BATCHES)
    chunks = [sample_pixels(rgb.cpu(), settings.palette.sample, generator) for rgb in batches]
    start = spread_colors(torch.cat(chunks), len(model.palette_K3), generator)
    if worker_count() > 1:
        distributed.broadcast(start, src=0)
    palette, _ = fit_palette(chunks, start, PALETTE_ITERATIONS)
    return palette
