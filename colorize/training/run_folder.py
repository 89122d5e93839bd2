"""What a training run leaves behind, on a disk or in a bucket: settings, metrics, curves, samples, checkpoints."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from pydantic import ValidationError

from colorize.checkpoint import dump_checkpoint
from colorize.config import UsageError, save_settings
from colorize.data.storage import Storage
from colorize.models import ColorModel
from colorize.training.curves import draw_curves
from colorize.training.settings import ModelSettings, TrainSettings

CONFIG, METRICS, CURVES, STATE, BEST = "config.yaml", "metrics.csv", "curves.png", "state.pt", "best.safetensors"
TEST = "test.json"

Row = Mapping[str, float]


class RunFolder:
    """`config.yaml`, `metrics.csv`, `curves.png`, `samples/`, `checkpoints/`, `best.safetensors`, `state.pt`."""

    def __init__(self, path: str | Path | Storage, settings: TrainSettings, resume: bool = False) -> None:
        """Create the folder, or open it to go on.

        Raises:
            UsageError: it cannot be written, there is a run already and `resume` is off, or it trains another model.
        """
        self.storage = path if isinstance(path, Storage) else Storage(path)
        self.settings = settings
        self.storage.check_writable()
        before = self._read(CONFIG)
        if before is not None and not resume:
            raise UsageError(
                f"{self.storage.url()} holds a training run: give --resume to go on with it, or another --output"
            )
        if before is not None and _model_of(before) != settings.model:
            raise UsageError(
                f"{self.storage.url()} trains another model: --resume can change how it trains, not model.*"
            )
        self.storage.write(CONFIG, save_settings(settings).encode())

    def load_state(self) -> dict[str, Any] | None:
        """The saved state, or None before the first epoch has ended."""
        data = self._read(STATE)
        return None if data is None else load_state_bytes(data)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Replace the saved state; a kill in between leaves the old one."""
        self.storage.write(STATE, dump_state_bytes(state))

    def write_metrics(self, history: Sequence[Row]) -> None:
        """Write `metrics.csv`, one row an epoch, and its curves; whole each time, so that no row comes twice."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(history[-1]), restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in history)
        self.storage.write(METRICS, text.getvalue().encode())
        self.storage.write(CURVES, draw_curves(history))

    def write_test(self, measured: Row) -> None:
        """Write `test.json`: the best weights' figures on the pictures kept for it."""
        self.storage.write(TEST, (json.dumps(dict(measured), indent=2) + "\n").encode())

    def add_checkpoint(self, model: ColorModel, epoch: int, best: bool) -> None:
        """Save an epoch's weights, in half precision, and keep them as the best if they are."""
        which = self.settings.model
        data = dump_checkpoint(model, name=which.name, args=which.args, dtype=torch.float16)
        self.storage.write(f"checkpoints/epoch-{epoch:03d}.safetensors", data)
        if best:
            self.storage.write(BEST, data)

    def add_samples(self, sheet: Image.Image, epoch: int) -> None:
        """Save an epoch's sample sheet."""
        encoded = io.BytesIO()
        sheet.save(encoded, "PNG")
        self.storage.write(f"samples/epoch-{epoch:03d}.png", encoded.getvalue())

    def _read(self, name: str) -> bytes | None:
        try:
            return self.storage.read(name)
        except FileNotFoundError:
            return None


def _model_of(config: bytes) -> ModelSettings | None:
    """What a run trains, by its config: what is younger than the run has its default. None if it does not say so."""
    try:
        return ModelSettings.model_validate(yaml.safe_load(config)["model"])
    except (KeyError, TypeError, ValidationError, yaml.YAMLError):
        return None


def dump_state_bytes(state: Mapping[str, Any]) -> bytes:
    """Tensors, numbers, strings, lists and dictionaries as bytes."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def load_state_bytes(data: bytes) -> dict[str, Any]:
    """What `dump_state_bytes` wrote; nothing else is ever unpickled."""
    state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return state
