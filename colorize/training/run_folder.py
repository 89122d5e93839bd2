"""What a training run leaves behind: settings, metrics, samples, checkpoints, and the state to resume from."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from colorize.checkpoint import save_checkpoint
from colorize.config import UsageError, load_settings, save_settings
from colorize.models import ColorModel
from colorize.training.settings import TrainSettings


class RunFolder:
    """`config.yaml`, `metrics.csv`, `samples/`, `checkpoints/`, `best.safetensors` and `state.pt` in one folder."""

    def __init__(self, path: str | Path, settings: TrainSettings, resume: bool = False) -> None:
        """Create the folder, or open it to go on.

        Raises:
            UsageError: there is a run already and `resume` is off, or it trains another model.
        """
        self.path = Path(path)
        self.settings = settings
        config = self.path / "config.yaml"
        if not resume and config.exists():
            raise UsageError(f"{path} holds a training run: give --resume to go on with it, or another --output")
        if config.exists() and load_settings(TrainSettings, config).model != settings.model:
            raise UsageError(f"{path} trains another model: --resume can change how it trains, not model.*")
        for folder in ("samples", "checkpoints"):
            (self.path / folder).mkdir(parents=True, exist_ok=True)
        config.write_text(save_settings(settings), encoding="utf-8")

    @property
    def state_file(self) -> Path:
        """What `--resume` reads."""
        return self.path / "state.pt"

    def load_state(self) -> dict[str, Any] | None:
        """The saved state, or None before the first epoch has ended."""
        if not self.state_file.exists():
            return None
        state: dict[str, Any] = torch.load(self.state_file, map_location="cpu", weights_only=True)
        return state

    def save_state(self, state: dict[str, Any]) -> None:
        """Replace the saved state; a kill in between leaves the old one."""
        partial = self.state_file.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.state_file)

    def add_metrics(self, row: dict[str, float]) -> None:
        """Append one epoch to `metrics.csv`."""
        file = self.path / "metrics.csv"
        new = not file.exists()
        with file.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(row))
            if new:
                writer.writeheader()
            writer.writerow({name: f"{value:.6g}" for name, value in row.items()})

    def add_checkpoint(self, model: ColorModel, epoch: int, best: bool) -> None:
        """Save an epoch's weights, in half precision, and keep them as the best if they are."""
        file = self.path / "checkpoints" / f"epoch-{epoch:03d}.safetensors"
        model_settings = self.settings.model
        save_checkpoint(file, model, name=model_settings.name, args=model_settings.args, dtype=torch.float16)
        if best:
            partial = self.path / "best.partial"
            shutil.copyfile(file, partial)
            partial.replace(self.path / "best.safetensors")

    def add_samples(self, sheet: Image.Image, epoch: int) -> None:
        """Save an epoch's sample sheet."""
        sheet.save(self.path / "samples" / f"epoch-{epoch:03d}.png")
