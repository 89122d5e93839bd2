"""Held-out photographs, and `colorize evaluate`'s figures of ways to color them, in one process.

The held-out pictures are halved by a hash of their paths: what is chosen (a temperature, a variant) is chosen on one
half, so that figures of the other, or of pictures from elsewhere, say what the choice is worth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from colorize.train.archive import Row, choose_rows, read_images

from colorize.evaluate.contestants import Paint
from colorize.evaluate.features import Lite0
from colorize.evaluate.judge import Judge
from colorize.evaluate.scores import Scores, collect, summarize
from colorize.evaluate.settings import MeasureSettings
from colorize.evaluate.supplied import Supplied
from colorize.imaging.formats.upright import RGB, center_crop, upright_rgb
from colorize.metrics import Interval
from colorize.train.settings import DataSettings

SEEN = 256  # pixels of a side that the network sees
BATCH = 8
_LIMIT = 1 << 28
_RESAMPLES = 1000
Half = Literal["choice", "report"]


@dataclass(frozen=True)
class HeldOut:
    """A colored picture to measure on: its path in the archive, and its center, `(side, side, 3)`."""

    path: str
    rgb: RGB


def place_of(row: Row) -> str:
    """What tells a picture from all others: its path, or where it lies in an archive that names none."""
    return row.path or f"{row.file.name}#{row.number}"


def half_of(path: str) -> Half:
    """Which half of the held-out pictures one belongs to, by its path."""
    return "choice" if hashlib.sha256(path.encode()).digest()[0] % 2 == 0 else "report"


def held_out(data: Path, half: Half, count: int, side: int) -> list[HeldOut]:
    """Pictures of the split `val`, always the same ones, in an order that nothing else follows."""
    rows = [row for row in choose_rows(data, "val", DataSettings()) if half_of(place_of(row)) == half]
    wanted = set(sorted(rows, key=lambda row: hashlib.sha256(place_of(row).encode()).digest())[:count])
    chosen = [row for row in rows if row in wanted]
    encoded = read_images(chosen, DataSettings().image_column)
    return [
        HeldOut(place_of(row), center_crop(upright_rgb(picture, _LIMIT), side))
        for row, picture in zip(chosen, encoded, strict=True)
    ]


def measure(paints: Mapping[str, Paint], pictures: Sequence[HeldOut]) -> dict[str, dict[str, Interval]]:
    """Each way's figures by name, with 95 % intervals, and `true_colorfulness` beside them."""
    judge = Judge("cpu", SEEN**2, Lite0(), Supplied())
    rows: list[dict[str, Any]] = []
    for start in range(0, len(pictures), BATCH):
        rows += _rows(judge, paints, pictures[start : start + BATCH])
    scores = collect(rows, list(paints))
    found = summarize(scores, MeasureSettings(resamples=_RESAMPLES))
    return {label: figures | {"true_colorfulness": _true(scores)} for label, figures in found.items()}


def _rows(judge: Judge, paints: Mapping[str, Paint], pictures: Sequence[HeldOut]) -> list[dict[str, Any]]:
    truth = judge.truth([picture.rgb for picture in pictures])
    described = truth.described()
    compared = [judge.compare(truth, paint) for paint in paints.values()]
    return [
        {"path": picture.path, "title": picture.path, "source": "", "width": 0, "height": 0, "error": ""}
        | {name: values[index] for name, values in described.items()}
        | {"models": [{"psnr_full": float("nan")} | {n: v[index] for n, v in found.items()} for found in compared]}
        for index, picture in enumerate(pictures)
    ]


def _true(scores: Scores) -> Interval:
    mean = float(scores.true_columns["colorfulness"].mean())
    return Interval(mean, mean, mean)
