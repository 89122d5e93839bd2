"""The folder of a training run, local or in a bucket: settings, metrics, curves, samples, checkpoints."""

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

from colorize.errors import UsageError
from colorize.models import ColorModel
from colorize.models.checkpoint import dump_checkpoint
from colorize.settings import parse_yaml, save_settings
from colorize.storage.root import Storage
from colorize.train.curves import draw_curves
from colorize.train.settings import TrainSettings
from colorize.weights.plain import NotPlainError, load_plain

CONFIG, METRICS, CURVES, STATE, BEST = "config.yaml", "metrics.csv", "curves.png", "state.pt", "best.safetensors"
TEST = "test.json"
CHECKPOINTS, SAMPLES = "checkpoints", "samples"
RAY_STATE = "_ray"  # Ray Train's own files
RESULTS = (CONFIG, METRICS, CURVES, STATE, BEST, TEST, CHECKPOINTS, SAMPLES, RAY_STATE)

Row = Mapping[str, float]


class RunFolder:
    """Reads and writes a run folder. The driver claims it once all other checks passed; workers only write."""

    def __init__(self, path: str | Path | Storage, settings: TrainSettings) -> None:
        self.storage = path if isinstance(path, Storage) else Storage(path)
        self.settings = settings

    def claim(self, resume: bool = False) -> RunFolder:
        """Starts or resumes a run here. Raises as `check`."""
        self.check(resume)
        self.storage.write(CONFIG, save_settings(self.settings).encode())
        return self

    def check(self, resume: bool = False) -> None:
        """Checks whether a run can start or resume here, without changes.

        Raises:
            UsageError: not writable, links in place of results, an existing run without `resume`, no run to resume,
                or a run with incompatible settings.
        """
        self.storage.require_no_links(*RESULTS)
        self.storage.check_writable()
        before = self._read(CONFIG)
        if before is None and resume:
            raise UsageError(f"--resume: {self.storage.url()} holds no training run; drop --resume to start one")
        if before is not None and not resume:
            raise UsageError(
                f"{self.storage.url()} holds a training run: add --resume to continue it, or choose another --output"
            )
        if before is not None and (reason := _cannot_go_on(before, self.settings)):
            raise UsageError(f"{self.storage.url()} {reason}")

    def load_state(self) -> dict[str, Any] | None:
        """The saved state, or None if there is none yet."""
        data = self._read(STATE)
        return None if data is None else load_state_bytes(data)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Replaces the saved state atomically."""
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        self.storage.write(STATE, buffer.getvalue())

    def write_metrics(self, history: Sequence[Row]) -> None:
        """Rewrites `metrics.csv`, one row per epoch, and `curves.png`."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(history[-1]), restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in history)
        self.storage.write(METRICS, text.getvalue().encode())
        self.storage.write(CURVES, draw_curves(history))

    def last_metrics(self) -> dict[str, float]:
        """The last row of `metrics.csv`."""
        rows = list(csv.DictReader(io.StringIO(self.storage.read(METRICS).decode())))
        return {name: float(value) for name, value in rows[-1].items() if value}

    def write_test(self, measured: Row) -> None:
        """Writes `test.json`: the best weights' metrics on the split `test`."""
        self.storage.write(TEST, (json.dumps(dict(measured), indent=2) + "\n").encode())

    def add_checkpoint(self, model: ColorModel, epoch: int, best: bool) -> None:
        """Saves an epoch's weights in half precision, also as the best if they are."""
        which = self.settings.model
        data = dump_checkpoint(model, name=which.name, args=which.args, dtype=torch.float16)
        self.storage.write(f"{CHECKPOINTS}/epoch-{epoch:03d}.safetensors", data)
        if best:
            self.storage.write(BEST, data)

    def add_samples(self, sheet: Image.Image, epoch: int) -> None:
        """Saves an epoch's sample sheet."""
        encoded = io.BytesIO()
        sheet.save(encoded, "PNG")
        self.storage.write(f"{SAMPLES}/epoch-{epoch:03d}.png", encoded.getvalue())

    def _read(self, name: str) -> bytes | None:
        try:
            return self.storage.read(name)
        except FileNotFoundError:
            return None


def _cannot_go_on(config: bytes, settings: TrainSettings) -> str:
    """Why a run with that config cannot be resumed with these settings, or ""."""
    before = _begun_with(config)
    if before is None or before.model != settings.model:
        return "trains another model: --resume can change how it trains, not model.*"
    if before.optimizer.name != settings.optimizer.name:
        change = f"from optimizer.name={before.optimizer.name} to {settings.optimizer.name}"
        return f"cannot be resumed {change}: start from its weights (model.weights) in another --output"
    if (before.adversarial is None) != (settings.adversarial is None):
        return "cannot be resumed with `adversarial` switched on or off: only its settings can be changed"
    return ""


def _begun_with(config: bytes) -> TrainSettings | None:
    """The settings of a run that cannot change, from its config; None if the config is invalid."""
    try:
        tree = parse_yaml(config)
        fixed = {name: tree[name] for name in ("optimizer", "adversarial") if name in tree}
        return TrainSettings.model_validate(fixed | {"model": tree["model"]})
    except (KeyError, TypeError, ValidationError, yaml.YAMLError):
        return None


def load_state_bytes(data: bytes) -> dict[str, Any]:
    """Loads `state.pt`, without running code.

    Raises:
        UsageError: another kind of file, or damaged.
    """
    try:
        state: dict[str, Any] = load_plain(data)
    except NotPlainError as error:
        raise UsageError(f"{STATE} {error}: start over in another --output") from None
    return state
