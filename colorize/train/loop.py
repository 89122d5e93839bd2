"""The training loop, in pure torch. `Run` provides Ray, files and the terminal."""

from __future__ import annotations

import itertools
import math
import time
import zlib

import torch
from torch import Tensor

from colorize.errors import EXIT_STOPPED, StoppedError, UsageError
from colorize.models import ColorModel
from colorize.models.checkpoint import load_checkpoint
from colorize.train.accuracy import recorded_metrics
from colorize.train.images import DecodedImages
from colorize.train.metric_averager import MetricAverager
from colorize.train.progress import GO_ON, Progress
from colorize.train.run import Record, Run
from colorize.train.run_folder import BEST
from colorize.train.start import start_or_resume
from colorize.train.step import TrainState, current_size, finalize_average, step
from colorize.train.validation import quality_of, sample_sheet, validate
from colorize.train.workers import sum_over_workers, worker_count

CHECK_STEPS = 20  # reading a loss synchronizes with the device
VALIDATION_BATCH = 16
EXPLOSION = 100.0  # times the mean loss of the epoch


class TrainingFailedError(StoppedError):
    """Training cannot continue, and a retry would not help."""


def train(run: Run) -> dict[str, float]:
    """Trains from the saved state, if any, to the end; returns the last epoch's metrics, for the first worker.

    Raises:
        UsageError: unusable images or settings.
        TrainingFailedError: the loss is not finite or explodes.
        StoppedError: stopped on request; the state is saved.
    """
    state, record = start_or_resume(run)
    loop = Loop(run, state, record)
    while state.progress < 1:
        loop.run_epoch()
    if run.settings.validation.test and run.rank == 0:
        test(run)
    return record.history[-1] if run.rank == 0 else {}


class Loop:
    """Runs steps, checks every few of them, and ends epochs."""

    def __init__(self, run: Run, state: TrainState, record: Record) -> None:
        self.run, self.state, self.record = run, state, record
        self.means = MetricAverager(record.means)
        self.batches = run.feed.batches(start=state.steps)
        self._set_progress()
        self.saved = self.checked = self.first = time.monotonic()
        self.begun = (self.saved, state.progress)
        self.images = 0  # seen in this epoch, by all workers

    def run_epoch(self) -> None:
        """Runs the remaining steps of an epoch, validates and saves."""
        self.state.epoch = self.record.epoch + 1
        self.checked = self.first = started = time.monotonic()
        self.images = 0
        while self.record.taken < self.run.epoch_steps and self.state.progress < 1:
            rgb = next(self.batches)
            if not self.images:
                self.first = time.monotonic()
            self._step(rgb)
        figures = self.means.all()
        figures["first_batch_seconds"] = self.first - started
        figures["pictures_per_second"] = self.images / max(time.monotonic() - self.first, 1e-9)
        self._end_epoch(figures)

    def _step(self, rgb: Tensor) -> None:
        run, record = self.run, self.record
        # By step, to make resuming reproducible; by rank, so that workers differ.
        torch.manual_seed(zlib.crc32(f"{run.settings.seed} {run.rank} {self.state.steps}".encode()))
        metrics = step(self.state, rgb)
        self.means.add(metrics)
        self.images += len(rgb) * worker_count()
        record.taken += 1
        self._set_progress()
        first = self.images == len(rgb) * worker_count()
        due = first or record.taken % CHECK_STEPS == 0 or record.taken == run.epoch_steps
        stop = (due or worker_count() == 1) and run.reporter.should_stop()
        if due or stop:
            self._check(metrics, stop)

    def _set_progress(self) -> None:
        trainer, record = self.run.settings.trainer, self.record
        if trainer.minutes:
            self.state.progress = min(record.seconds / (60 * trainer.minutes), 1.0)
            return
        steps = record.epoch * self.run.epoch_steps + record.taken
        self.state.progress = min(steps / (trainer.epochs * self.run.epoch_steps), 1.0)

    def _check(self, metrics: dict[str, Tensor], stop: bool) -> None:
        """Checks the loss, and saves or stops if any worker has a reason to. Synchronizes with device and workers."""
        fault = divergence(self.means["loss"], float(metrics["loss"]), float(metrics["gradient_norm"]))
        now, first = time.monotonic(), self.run.rank == 0
        due = first and now - self.saved > 60 * self.run.settings.trainer.save_minutes
        ours = [bool(fault), due, stop, first * (now - self.checked)]
        failed, save, stopped, seconds = sum_over_workers(torch.tensor(ours, dtype=torch.float64)).tolist()
        self.record.seconds, self.checked = self.record.seconds + seconds, now
        self._set_progress()
        if failed:
            raise TrainingFailedError(fault or "the loss of another worker is not finite or exploded")
        if first:
            self.run.reporter.progress(self._progress(now))
        if save or stopped:
            self._save()
        if stopped:
            raise StoppedError(f"stopped; the state is saved: {GO_ON}", EXIT_STOPPED)

    def _progress(self, now: float) -> Progress:
        begun, before = self.begun
        done = self.state.progress
        left = (now - begun) * (1 - done) / max(done - before, 1e-9)
        rate = self.images / max(now - self.first, 1e-9)
        return Progress(self.state.epoch, done, self.means["loss"], rate, left)

    def _end_epoch(self, training: dict[str, float]) -> None:
        """Validates and saves on the first worker; all workers wait for each other in the report.

        The state is saved last: if the run dies before, the end of the epoch is repeated and overwrites its files.
        """
        run, state, record = self.run, self.state, self.record
        if run.rank == 0:
            finalize_average(state)
            measured = measure(state.average, run.held_out, run)
            quality = quality_of(measured, run.settings.validation.best) if measured else -training["loss"]
            better = quality > record.best
            record.best = max(record.best, quality)
            row = {"epoch": record.epoch + 1, "seconds": record.seconds, "size": current_size(state)}
            record.history.append(row | training | {f"val_{name}": value for name, value in measured.items()})
            run.folder.add_checkpoint(state.average, state.epoch, better)
            run.folder.write_metrics(record.history)
            self._add_samples()
        record.epoch, record.taken, self.means = record.epoch + 1, 0, MetricAverager()
        self._save()
        run.reporter.epoch(record.history[-1] if run.rank == 0 else {})

    def _add_samples(self) -> None:
        settings = self.run.settings.validation
        shown = list(itertools.islice(self.run.held_out.singles(), settings.samples))
        if shown:
            sheet = sample_sheet(self.state.average, shown, settings.size)
            self.run.folder.add_samples(sheet, self.state.epoch)

    def _save(self) -> None:
        self.saved = time.monotonic()
        self.record.means = self.means.state_dict()
        if self.run.rank == 0:
            self.run.folder.save_state({"state": self.state.state_dict(), "record": vars(self.record)})


def measure(model: ColorModel, images: DecodedImages, run: Run) -> dict[str, float]:
    """A network's metrics on held-out images; empty without images."""
    size = run.settings.validation.size
    colored = validate(model, images.in_order(VALIDATION_BATCH), size)
    return colored | recorded_metrics(model, images.in_order(VALIDATION_BATCH), size)


def test(run: Run) -> None:
    """Writes the best weights' metrics on the split `test` to `test.json`.

    Raises:
        UsageError: the split has no images.
    """
    best = load_checkpoint(run.folder.storage.read(BEST)).model.to(run.device)
    measured = measure(best, run.feed.held_out("test"), run)
    if not measured:
        raise UsageError("validation.test: there are no images in the split `test`; see data.split.test")
    run.folder.write_test(measured)


def divergence(mean: float, latest: float, gradient: float) -> str:
    """Why training cannot continue with this loss, or ""."""
    if not math.isfinite(latest) or not math.isfinite(gradient):
        what = f"the loss is {latest}" if not math.isfinite(latest) else f"the length of the gradient is {gradient}"
        return f"{what}: lower optimizer.learning_rate; the previous state is saved, continue from it with --resume"
    if latest > EXPLOSION * max(mean, 1e-6):
        return f"the loss exploded to {latest:.3g} (mean {mean:.3g}): lower optimizer.learning_rate or clip_norm"
    return ""
