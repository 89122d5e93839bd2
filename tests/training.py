"""A training in the test process, for several tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from colorize.train.epoch_plan import plan_epoch
from colorize.train.progress import Progress
from colorize.train.reading import open_training_source
from colorize.train.run import Run
from colorize.train.run_folder import RunFolder
from colorize.train.settings import TrainSettings
from colorize.train.single import open_feed


class Silent:
    """Displays nothing; requests a stop after so many steps."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.left = stop_after

    def progress(self, progress: Progress) -> None:
        """Not displayed."""

    def epoch(self, figures: Mapping[str, float]) -> None:
        """Not displayed."""

    def should_stop(self) -> bool:
        """Called after every step."""
        if self.left is not None:
            self.left -= 1
        return self.left is not None and self.left <= 0


def run_alone(settings: TrainSettings, data: Path, folder: Path, reporter: Silent) -> Run:
    """As `train_alone` does; resumes an existing run."""
    source = open_training_source(str(data), settings.data)
    device = torch.device("cpu")
    feed = open_feed(source, settings, plan_epoch(source, settings.data), device)
    claimed = RunFolder(folder, settings).claim(resume=(folder / "config.yaml").exists())
    return Run(settings, claimed, feed, device, reporter)
