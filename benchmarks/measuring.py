"""Held-out photographs, and the metrics of `colorize evaluate` for several colorizations, in one process.

The held-out images are divided in two halves by a hash of their paths: choices (a temperature, a variant) are made on
one half, so that metrics on the other, or on other images, are unbiased.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from colorize.datasets.settings import SourceSettings
from colorize.datasets.sources import open_source
from colorize.datasets.splits import split_of, split_row
from colorize.evaluate.candidates import Paint
from colorize.evaluate.evaluator import Evaluator
from colorize.evaluate.features import Lite0
from colorize.evaluate.scores import Scores, collect, summarize
from colorize.evaluate.settings import MeasureSettings
from colorize.evaluate.supplied import Supplied
from colorize.imaging.formats import Encoded, whole
from colorize.imaging.formats.upright import RGB, center_crop, upright_rgb
from colorize.metrics import Interval

SEEN = 256  # side in pixels of the network's input
BATCH = 8
_LIMIT = 1 << 28
_RESAMPLES = 1000
Half = Literal["choice", "report"]


@dataclass(frozen=True)
class HeldOut:
    """A color image to evaluate on: its path in the archive, and its center crop, `(side, side, 3)`."""

    path: str
    rgb: RGB


def half_of(path: str) -> Half:
    """The half to which a held-out image belongs, by its path."""
    return "choice" if hashlib.sha256(path.encode()).digest()[0] % 2 == 0 else "report"


def held_out(data: Path, half: Half, count: int, side: int) -> list[HeldOut]:
    """A deterministic sample of the split `val`, in an order independent of everything else."""
    source = open_source(str(data), SourceSettings()).with_columns("path", "split")
    several, encoded = len(source.parts or ()) > 1, dict[str, Encoded]()
    for block in source.blocks():
        for raw in (raw for raws in source.reader.fetch(block) for raw in raws):
            said = split_row(raw, several)
            if split_of(said) == "val" and half_of(str(said["path"])) == half:
                encoded[str(said["path"])] = raw.data
    wanted = sorted(encoded, key=lambda path: hashlib.sha256(path.encode()).digest())[:count]
    return [HeldOut(path, center_crop(upright_rgb(whole(encoded[path]), _LIMIT), side)) for path in wanted]


def measure(paints: Mapping[str, Paint], images: Sequence[HeldOut]) -> dict[str, dict[str, Interval]]:
    """The metrics of each by name, with 95 % intervals, and `true_colorfulness`."""
    evaluator = Evaluator("cpu", SEEN**2, Lite0(), Supplied())
    rows: list[dict[str, Any]] = []
    for start in range(0, len(images), BATCH):
        rows += _rows(evaluator, paints, images[start : start + BATCH])
    scores = collect(rows, list(paints))
    found = summarize(scores, MeasureSettings(resamples=_RESAMPLES))
    return {label: figures | {"true_colorfulness": _true(scores)} for label, figures in found.items()}


def _rows(evaluator: Evaluator, paints: Mapping[str, Paint], images: Sequence[HeldOut]) -> list[dict[str, Any]]:
    truth = evaluator.truth([image.rgb for image in images])
    described = truth.described()
    compared = [evaluator.compare(truth, paint) for paint in paints.values()]
    return [
        {"path": image.path, "title": image.path, "source": "", "width": 0, "height": 0, "error": ""}
        | {name: values[index] for name, values in described.items()}
        | {"models": [{"psnr_full": float("nan")} | {n: v[index] for n, v in found.items()} for found in compared]}
        for index, image in enumerate(images)
    ]


def _true(scores: Scores) -> Interval:
    mean = float(scores.true_columns["colorfulness"].mean())
    return Interval(mean, mean, mean)
