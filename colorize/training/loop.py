"""What each Ray Train worker runs: the pure-torch step, fed by its shard, with a checkpoint after every epoch."""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.data import DataIterator
from ray.train import Checkpoint
from ray.train.torch import get_device, prepare_model
from torch import Tensor

from colorize.errors import UsageError
from colorize.models import ColorModel, create_model
from colorize.models.checkpoint import load_checkpoint
from colorize.models.palette_cnn import PaletteCnn
from colorize.report.durations import duration
from colorize.storage.root import Storage
from colorize.training.accuracy import recorded_metrics
from colorize.training.feed import too_many_broken
from colorize.training.journal import Journal
from colorize.training.means import Means
from colorize.training.palette import fit_palette, sample_pixels, spread_colors
from colorize.training.photos import as_float
from colorize.training.run_folder import BEST, STATE, RunFolder, dump_state_bytes, load_state_bytes
from colorize.training.settings import TrainSettings
from colorize.training.step import TrainState, compiled, create_state, current_size, settle_average, step
from colorize.training.validation import quality_of, sample_sheet, validate

LOG_SECONDS = 10.0
PALETTE_BATCHES = 500  # of each worker: the colors settle long before, and their pixels stay in memory
CHECK_STEPS = 20
VALIDATION_BATCH = 16
NO_PICTURES = "no picture to train on for some worker: see data.labels, sources, include, split and trainer.workers"
EXPLOSION = 100.0  # times the epoch's mean loss


class TrainingFailedError(RuntimeError):
    """Training cannot go on, and trying again would not help."""


@dataclass(frozen=True)
class LoopConfig:
    """What the driver tells every worker."""

    settings: TrainSettings
    storage: Storage  # the run folder
    prior: Tensor | None  # (Q,): how often each color bin occurs
    pictures: int  # about how many the first epoch will have: see `plan_epoch`


@dataclass
class Progress:
    """Where a run is, and what it began with; saved with every checkpoint."""

    epoch: int = 0
    pictures: int = 0  # of the last epoch, of all workers
    prior: Tensor | None = None  # as in LoopConfig, when the run began
    seconds: float = 0.0
    best: float = float("-inf")
    history: list[dict[str, float]] = field(default_factory=list)


def train_loop(arguments: dict[str, Any]) -> None:
    """Trains from the last checkpoint, if there is one, to the last epoch.

    Ray starts it anew after any error. Where that would not help, it leaves word in the run folder, and ends at once
    when it finds some: the driver says why.
    """
    config: LoopConfig = arguments["config"]
    folder = RunFolder(config.storage, config.settings)
    if folder.failure():
        return
    try:
        _train(config)
    except (TrainingFailedError, UsageError) as error:
        folder.write_failure(str(error))
        raise


def _train(config: LoopConfig) -> None:
    settings = config.settings
    state, progress = _start(config)
    journal = Journal(config.storage)
    while progress.epoch < settings.trainer.epochs:
        progress.epoch += 1
        state.epoch = progress.epoch
        # By epoch, so that a resumed run draws what it would have drawn; by worker, so that each damages differently.
        torch.manual_seed(settings.seed + 1000 * progress.epoch + ray.train.get_context().get_world_rank())
        training = _train_epoch(state, config, progress, journal)
        _finish_epoch(state, config, progress, journal, training)
    _test(config, journal)


def _start(config: LoopConfig) -> tuple[TrainState, Progress]:
    """The network on this worker's device, wrapped for data parallelism, in the state of the last checkpoint."""
    saved = _last_checkpoint()
    palette = None if saved else _palette(config)  # a checkpoint holds its own
    progress = Progress(**{"prior": config.prior} | saved.get("progress", {}))
    state = create_state(config.settings, get_device(), progress.prior, palette)
    if saved:
        state.load_state_dict(saved["state"])
    # Buffers are the same on all workers, or only the first one's are measured and saved.
    wrapped = prepare_model(state.objective, parallel_strategy_kwargs={"broadcast_buffers": False})
    state.objective = compiled(wrapped, config.settings)
    return state, progress


def _last_checkpoint() -> dict[str, Any]:
    """What `_finish_epoch` saved; empty at the beginning of a run."""
    checkpoint = ray.train.get_checkpoint()
    if not checkpoint:
        return {}
    with checkpoint.as_directory() as folder:
        return load_state_bytes((Path(folder) / STATE).read_bytes())


def _palette(config: LoopConfig) -> Tensor | None:
    """The training pictures' palette, for the network that has one: every worker counts its own pictures."""
    settings = config.settings
    network = create_model(settings.model.name, **settings.model.args)
    if not isinstance(network, PaletteCnn):
        return None
    generator = torch.Generator().manual_seed(settings.seed)
    batches = itertools.islice(_batches(config, 0), PALETTE_BATCHES)
    chunks = [sample_pixels(rgb.cpu(), settings.palette.sample, generator) for rgb in batches]
    if not chunks:
        raise TrainingFailedError(NO_PICTURES)
    start = spread_colors(torch.cat(chunks), len(network.palette_K3), generator)
    if ray.train.get_context().get_world_size() > 1:
        torch.distributed.broadcast(start, src=0)
    palette, _ = fit_palette(chunks, start, settings.palette.iterations)
    return palette


def _train_epoch(state: TrainState, config: LoopConfig, progress: Progress, journal: Journal) -> dict[str, float]:
    """Mean metrics of one pass over this worker's shard, and how fast it went."""
    started = logged = first = time.monotonic()
    workers = ray.train.get_context().get_world_size()
    means, taken, pictures = Means(), 0, 0
    for rgb in itertools.islice(_batches(config, progress.epoch), config.settings.trainer.epoch_steps):
        if not taken:
            first = time.monotonic()
            _log_start(journal, progress)
        state.progress = training_progress(config, progress, pictures)
        metrics = step(state, rgb)
        taken, pictures = taken + 1, pictures + workers * len(rgb)
        means.add(metrics)
        if taken % CHECK_STEPS == 0:  # looking at a figure waits for the device
            _require_sane(means["loss"], float(metrics["loss"]))
        if time.monotonic() - logged > LOG_SECONDS:
            logged = time.monotonic()
            _log_line(journal, config, progress, means["loss"], pictures, logged - started)
    if not taken:
        raise TrainingFailedError(NO_PICTURES)
    _require_sane(means["loss"], float(metrics["loss"]))
    figures = means.all()  # waits for the device
    ended = time.monotonic()
    progress.seconds, progress.pictures = progress.seconds + ended - started, pictures
    return figures | {"first_batch_seconds": first - started, "pictures_per_second": pictures / (ended - first)}


def _batches(config: LoopConfig, epoch: int) -> Iterator[Tensor]:
    shard = ray.train.get_dataset_shard("train")
    return shard_batches(shard, config.settings, ray.train.get_context().get_world_size(), epoch)


def shard_batches(shard: DataIterator, settings: TrainSettings, workers: int, epoch: int) -> Iterator[Tensor]:
    """A worker's share of every batch of an epoch: sRGB in [0, 1] `(B, 3, H, W)`, broken pictures left out.

    Each picture comes once. All workers get as many, so that none waits for another's gradients for ever: of a
    number that they cannot share evenly, the last few are left out.

    Raises:
        TrainingFailedError: more pictures are broken than `data.tolerate_broken` allows.
    """
    broken, seen = 0, 0
    for batch in shard.iter_torch_batches(
        batch_size=max(1, settings.trainer.batch_size // workers),
        local_shuffle_buffer_size=settings.trainer.shuffle_rows,
        local_shuffle_seed=settings.seed + epoch,
    ):
        bad = batch["broken"].bool()
        broken, seen = broken + int(bad.sum()), seen + len(bad)
        if reason := too_many_broken(broken, seen, settings.data):
            raise TrainingFailedError(reason)
        good = batch["rgb"][~bad] if bad.any() and not bad.all() else batch["rgb"]
        yield as_float(good.permute(0, 3, 1, 2))


def _finish_epoch(
    state: TrainState, config: LoopConfig, progress: Progress, journal: Journal, training: dict[str, float]
) -> None:
    """Measures and saves on the first worker; the report is where all workers wait for each other.

    Weights and figures are written before the report: if the run dies in between, the epoch is done again and
    they are replaced.
    """
    if ray.train.get_context().get_world_rank() != 0:
        ray.train.report({})
        return
    settle_average(state)
    held_out = list(_held_out("val"))  # a few hundred pictures at most: decoded once, looked at three times
    measured = _measure(state.average, config, lambda: held_out)
    quality = quality_of(measured, config.settings.validation.best) if measured else -training["loss"]
    better = quality > progress.best
    progress.best = max(progress.best, quality)
    row = {"epoch": progress.epoch, "seconds": progress.seconds, "size": current_size(state)}
    progress.history.append(row | training | {f"val_{name}": value for name, value in measured.items()})
    folder = RunFolder(config.storage, config.settings)
    folder.add_checkpoint(state.average, progress.epoch, better)
    folder.write_metrics(progress.history)
    _add_samples(state, config, folder, progress.epoch, held_out)
    figures = {name: value for name, value in progress.history[-1].items() if name.startswith(("loss", "val_"))}
    journal.add(f"epoch {progress.epoch} done: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
    with tempfile.TemporaryDirectory() as temporary:
        saved = {"state": state.state_dict(), "progress": vars(progress)}
        Path(temporary, STATE).write_bytes(dump_state_bytes(saved))
        ray.train.report(progress.history[-1], checkpoint=Checkpoint.from_directory(temporary))


def _measure(model: ColorModel, config: LoopConfig, batches: Callable[[], Iterable[Tensor]]) -> dict[str, float]:
    """A network's figures on held-out pictures; none where nothing is held out."""
    size = config.settings.validation.size
    return validate(model, batches(), size) | recorded_metrics(model, batches(), size)


def _test(config: LoopConfig, journal: Journal) -> None:
    """If the run asks for it, the best weights' figures on the pictures that nothing was chosen by: `test.json`."""
    if not config.settings.validation.test or ray.train.get_context().get_world_rank() != 0:
        return
    folder = RunFolder(config.storage, config.settings)
    best = load_checkpoint(folder.storage.read(BEST)).model.to(get_device())
    measured = _measure(best, config, lambda: _held_out("test"))
    if not measured:
        raise TrainingFailedError("validation.test: no picture is of the split `test`; see data.split.test")
    folder.write_test(measured)
    journal.add("test: " + ", ".join(f"{name} {value:.4g}" for name, value in measured.items()))


def _add_samples(state: TrainState, config: LoopConfig, folder: RunFolder, epoch: int, held_out: list[Tensor]) -> None:
    singles = (rgb.unsqueeze(0) for batch in held_out for rgb in batch)
    shown = list(itertools.islice(singles, config.settings.validation.samples))
    if shown:
        folder.add_samples(sample_sheet(state.average, shown, config.settings.validation.size), epoch)


def _held_out(split: str) -> Iterator[Tensor]:
    for batch in ray.train.get_dataset_shard(split).iter_torch_batches(batch_size=VALIDATION_BATCH):
        good = batch["rgb"][~batch["broken"].bool()]
        if len(good):
            yield as_float(good.permute(0, 3, 1, 2))


def training_progress(config: LoopConfig, progress: Progress, pictures: int) -> float:
    """How much of the training is done, in [0, 1], when all workers together have seen so many of this epoch."""
    trainer = config.settings.trainer
    expected = progress.pictures or config.pictures
    if trainer.epoch_steps:
        expected = min(expected, trainer.epoch_steps * trainer.batch_size)
    return (progress.epoch - 1 + min(pictures / max(expected, 1), 1.0)) / trainer.epochs


def _require_sane(mean: float, latest: float) -> None:
    if not math.isfinite(latest):
        raise TrainingFailedError(
            f"the loss is {latest}: lower optimizer.learning_rate; the last good checkpoint is kept, "
            "go on from it with --resume"
        )
    if latest > EXPLOSION * max(mean, 1e-6):
        raise TrainingFailedError(
            f"the loss exploded to {latest:.3g} (mean {mean:.3g}): lower optimizer.learning_rate or clip_norm"
        )


def _log_start(journal: Journal, progress: Progress) -> None:
    """Says that the first pictures have come: until then a run shows nothing."""
    context = ray.train.get_context()
    if progress.epoch == 1 and context.get_world_rank() == 0:
        journal.add(f"training begins, {context.get_world_size()} workers on {get_device().type}")


def _log_line(
    journal: Journal, config: LoopConfig, progress: Progress, loss: float, pictures: int, seconds: float
) -> None:
    """`epoch 2/12, loss 3.21, 240 pictures/s, 3m20s left` from the first worker."""
    context = ray.train.get_context()
    if context.get_world_rank() != 0:
        return
    rate = pictures / seconds
    done = training_progress(config, progress, pictures)
    spent = progress.seconds + seconds
    left = spent * (1 - done) / max(done, 1e-6)
    epochs = config.settings.trainer.epochs
    journal.add(f"epoch {progress.epoch}/{epochs}, loss {loss:.4f}, {rate:.0f} pictures/s, {duration(left)} left")
