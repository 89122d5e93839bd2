"""Train on one machine, without Ray: `python -m colorize.training.local --config F --data PARQUET --output RUN`.

On CPUs, glibc gives the memory of each large tensor back and fetches it anew, which costs a third of the time:
`MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=20000000000` in the environment keeps it.
"""

from __future__ import annotations

import itertools
import logging
import math
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from colorize.errors import UsageError
from colorize.imaging.color import rgb_to_lab
from colorize.models import BinModel, ColorModel, create_model
from colorize.models.checkpoint import load_checkpoint
from colorize.models.palette_cnn import PaletteCnn
from colorize.plain_text import joined, say
from colorize.settings import load_settings
from colorize.training.accuracy import recorded_metrics
from colorize.training.losses import count_bins, shrink
from colorize.training.means import Means
from colorize.training.palette import fit_palette, sample_pixels, spread_colors
from colorize.training.photos import Photos, read_photos
from colorize.training.run_folder import BEST, RunFolder
from colorize.training.settings import TrainSettings
from colorize.training.step import compiled, create_state, current_size, settle_average, step
from colorize.training.validation import quality_of, sample_sheet, validate

log = logging.getLogger(__name__)

_PRIOR_BATCHES = 100  # the bins' frequencies settle long before all pictures are counted
_LOG_SECONDS = 30.0


class LocalTrainer:
    """One process, one device, pictures in memory."""

    def __init__(
        self,
        settings: TrainSettings,
        data: str,
        folder: RunFolder,
        minutes: float | None,
        photos: tuple[Photos, Photos] | None = None,
    ) -> None:
        """Read the pictures, build the network, take up a saved state.

        Args:
            settings: of the run.
            data: Parquet file or folder.
            folder: where results go.
            minutes: train for so long, this run and those it resumes together, instead of for a number of epochs.
            photos: training and held-out pictures of `data` that were decoded before, for several runs.
        """
        self.settings, self.data, self.folder, self.minutes = settings, data, folder, minutes
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.photos, self.held_out = photos or (
            read_photos(data, "train", settings.data),
            read_photos(data, "val", settings.data),
        )
        self.generator = torch.Generator().manual_seed(settings.seed)
        network = create_model(settings.model.name, **settings.model.args)
        self.state = create_state(settings, self.device, self._prior(network), self._palette(network))
        self.state.objective = compiled(self.state.objective, settings)
        self.epoch, self.seconds, self.best = 0, 0.0, float("-inf")
        self.history: list[dict[str, float]] = []
        saved = folder.load_state()
        if saved:
            self._resume(saved)

    @property
    def epoch_steps(self) -> int:
        """Steps of one epoch."""
        trainer = self.settings.trainer
        return trainer.epoch_steps or sum(math.ceil(len(b) / trainer.batch_size) for b in self.photos.buckets)

    def run(self) -> None:
        """Train to the end, an epoch after the other."""
        batches = self.photos.random_batches(self.settings.trainer.batch_size, self.generator)
        log.info("%d pictures, %d held out, on %s", len(self.photos), len(self.held_out), self.device)
        while self.state.progress < 1:
            self.run_epoch(batches)
        if self.settings.validation.test:
            self._test()

    def run_epoch(self, batches: Iterable[Tensor]) -> None:
        """Train on some of `batches`, measure, save."""
        self.epoch += 1
        self.state.epoch = self.epoch
        torch.manual_seed(self.settings.seed + 1000 * self.epoch)  # a resumed run draws what it would have drawn
        training = self._train_epoch(batches)
        self._finish_epoch(training)

    def _train_epoch(self, batches: Iterable[Tensor]) -> dict[str, float]:
        """Mean metrics of an epoch's steps."""
        means, started, logged = Means(), time.monotonic(), time.monotonic()
        for taken, rgb in enumerate(itertools.islice(batches, self.epoch_steps), 1):
            before = time.monotonic()
            metrics = step(self.state, rgb.to(self.device))
            means.add(metrics)
            self.seconds += time.monotonic() - before
            self.state.progress = self._progress()
            if time.monotonic() - logged > _LOG_SECONDS:
                logged = time.monotonic()
                rate = taken * len(rgb) / (logged - started)
                log.info("%.1f %%, loss %.4f, %.1f pictures/s", 100 * self.state.progress, means["loss"], rate)
            if self.state.progress >= 1:
                break
        return means.all()

    def _progress(self) -> float:
        if self.minutes:
            return min(self.seconds / (60 * self.minutes), 1.0)
        return min(self.state.steps / (self.settings.trainer.epochs * self.epoch_steps), 1.0)

    def _finish_epoch(self, training: dict[str, float]) -> None:
        settings, state = self.settings.validation, self.state
        settle_average(state)
        measured = self._measure(state.average, self.held_out, settings.limit)
        log.info("epoch %d: %s", self.epoch, {k: round(v, 4) for k, v in (training | measured).items()})
        quality = quality_of(measured, settings.best)
        better = quality > self.best
        self.best = max(self.best, quality)
        row = {"epoch": self.epoch, "seconds": self.seconds, "size": current_size(state)}
        self.history.append(row | training | {f"val_{k}": v for k, v in measured.items()})
        self.folder.write_metrics(self.history)
        if settings.samples:
            shown = (b.to(self.device) for b in self.held_out.batches(4, settings.samples))
            self.folder.add_samples(sample_sheet(state.average, shown, settings.size), self.epoch)
        self.folder.add_checkpoint(state.average, self.epoch, better)
        self.folder.save_state(self._saved())

    def _test(self) -> None:
        """The best weights' figures on the pictures that nothing was chosen by."""
        best = load_checkpoint(self.folder.storage.read(BEST)).model.to(self.device)
        photos = read_photos(self.data, "test", self.settings.data)
        measured = self._measure(best, photos, len(photos))
        log.info("test: %s", {name: round(value, 4) for name, value in measured.items()})
        self.folder.write_test(measured)

    def _measure(self, model: ColorModel, photos: Photos, limit: int) -> dict[str, float]:
        def batches() -> Iterator[Tensor]:
            return (rgb.to(self.device) for rgb in photos.batches(16, limit))

        size = self.settings.validation.size
        return validate(model, batches(), size) | recorded_metrics(model, batches(), size)

    def _prior(self, network: ColorModel) -> Tensor | None:
        """How often each bin occurs in the training pictures, for networks that have bins."""
        if not isinstance(network, BinModel):
            return None
        batches = self.photos.random_batches(32, torch.Generator().manual_seed(self.settings.seed))
        counts = torch.zeros(len(network.bins_Q2))
        for rgb in itertools.islice(batches, _PRIOR_BATCHES):
            ab = rgb_to_lab(rgb)[:, 1:]
            counts += count_bins(shrink(ab, (ab.shape[2] // 4, ab.shape[3] // 4)), network.bins_Q2)
        return counts

    def _palette(self, network: ColorModel) -> Tensor | None:
        """The training pictures' palette, for the network that has one."""
        if not isinstance(network, PaletteCnn):
            return None
        settings = self.settings.palette
        generator = torch.Generator().manual_seed(self.settings.seed)
        batches = self.photos.batches(256, len(self.photos))
        chunks = [sample_pixels(rgb, settings.sample, generator) for rgb in batches]
        start = spread_colors(torch.cat(chunks), len(network.palette_K3), generator)
        palette, counts = fit_palette(chunks, start, settings.iterations)
        log.info("palette %s, shares %s", (palette * 255).round().int().tolist(), (counts / counts.sum()).tolist())
        return palette

    def _saved(self) -> dict[str, Any]:
        ours = {"epoch": self.epoch, "seconds": self.seconds, "best": self.best, "history": self.history}
        return ours | {"generator": self.generator.get_state(), "state": self.state.state_dict()}

    def _resume(self, saved: dict[str, Any]) -> None:
        self.epoch, self.seconds, self.best = saved["epoch"], saved["seconds"], saved["best"]
        self.history = saved["history"]
        self.generator.set_state(saved["generator"])
        self.state.load_state_dict(saved["state"])
        self.state.progress = self._progress()
        log.info("going on after epoch %d, at %.0f %%", self.epoch, 100 * self.state.progress)


def main(
    data: Annotated[str, typer.Option(help="Parquet file, or folder of them")],
    output: Annotated[str, typer.Option(help="run folder to create")],
    config: Annotated[str | None, typer.Option(help="YAML file of settings")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="key.name=value, repeatable")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in OUTPUT")] = False,
    minutes: Annotated[float | None, typer.Option(help="train for so long instead of for epochs")] = None,
) -> None:
    """Train a colorization network on this machine."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        settings = load_settings(TrainSettings, config, overrides or [])
        folder = RunFolder(output, settings)
        folder.check(resume)
        trainer = LocalTrainer(settings, data, folder, minutes)
        folder.claim(resume)
        trainer.run()
    except UsageError as error:
        say(f"error: {joined(str(error))}", sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    typer.run(main)
