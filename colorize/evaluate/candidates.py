"""The models to evaluate: their files, short labels, and functions that color."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from colorize.errors import UsageError
from colorize.imaging.canvas import Grey
from colorize.imaging.compose import compose
from colorize.imaging.formats import decode, decode_small
from colorize.imaging.formats.upright import RGB
from colorize.predict.colorizer import Colored
from colorize.predict.model_files import ModelFile, find_model, require_settings
from colorize.predict.opening import open_colorizer
from colorize.predict.settings import ColorizerSettings

GREY = "grey"  # the baseline that adds no color
_LIMIT = 1 << 30  # pixels: no limit, these are our own crops

Paint = Callable[[Sequence[Grey]], list[Colored]]  # as `Colorizer.color`: upright grey images -> their color


class Painter(Protocol):
    """A `Paint` that can return its confidence."""

    def __call__(self, greys: Sequence[Grey], *, confidence: bool = False) -> list[Colored]: ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model to evaluate."""

    label: str  # short and unique
    file: ModelFile


def find_candidates(names: Sequence[str]) -> list[Candidate]:
    """Finds the named models.

    Raises:
        UsageError: unknown or repeated model.
    """
    if not names:
        raise UsageError("name a model with --model")
    twice = [name for index, name in enumerate(names) if name in names[:index]]
    if twice:
        raise UsageError(f"--model {twice[0]} is given twice: name each model once")
    files = [ModelFile(GREY, GREY, "", b"") if name == GREY else find_model(name) for name in names]
    return [Candidate(label, file) for label, file in zip(short_labels(names), files, strict=True)]


def short_labels(names: Sequence[str]) -> list[str]:
    """The shortest unique ends of the names.

    >>> short_labels(["default", "s3://b/runs/lab_cnn", "runs/a/best.safetensors", "runs/b/best.safetensors"])
    ['default', 'lab_cnn', 'a', 'b']
    """
    stems = [name.rstrip("/").removesuffix(".safetensors").removesuffix("/best") for name in names]
    if len(set(stems)) < len(stems):
        return list(names)
    return [_short(stem, [other for other in stems if other != stem]) for stem in stems]


def require_all(candidates: Sequence[Candidate], settings: ColorizerSettings) -> None:
    """Raises UsageError for settings that one of the models does not support."""
    for candidate in candidates:
        if candidate.file.name != GREY:
            require_settings(candidate.file, settings)


def painter(file: ModelFile, settings: ColorizerSettings, device: str, batch_size: int) -> Painter:
    """The function that colors with this model."""
    if file.name == GREY:
        return leave_grey
    return open_colorizer(file.data, settings, batch_size=batch_size, device=device).color


def leave_grey(greys: Sequence[Grey], *, confidence: bool = False) -> list[Colored]:
    """Zero ab, of one pixel."""
    return [Colored(np.zeros((2, 1, 1), np.float16), 0.0) for _ in greys]


class FinitePainter:
    """Wraps a `Paint` for one batch: replaces colors that are not finite by grey, and records where."""

    def __init__(self, paint: Painter) -> None:
        self.paint = paint
        self.not_finite: set[int] = set()  # indices in the batch

    def __call__(self, greys: Sequence[Grey], *, confidence: bool = False) -> list[Colored]:
        colors = self.paint(greys, confidence=confidence)
        found = {index for index, colored in enumerate(colors) if not np.isfinite(colored.ab).all()}
        self.not_finite |= found
        return [
            grey if i in found else own for i, (own, grey) in enumerate(zip(colors, leave_grey(greys), strict=True))
        ]


def color_scans(scans: Sequence[bytes], paint: Paint, area: int) -> list[tuple[RGB, float]]:
    """Colors losslessly encoded grey images as the bulk job does; returns RGB and confidence."""
    small = [decode_small(scan, area, max_pixels=_LIMIT).luma for scan in scans]
    return [
        (np.asarray(compose(decode(scan, max_pixels=_LIMIT), colored.ab)), colored.confidence)
        for scan, colored in zip(scans, paint(small), strict=True)
    ]


def _short(stem: str, others: Sequence[str]) -> str:
    parts = stem.split("/")
    for count in range(1, len(parts) + 1):
        end = "/".join(parts[-count:])
        if not any(other == end or other.endswith(f"/{end}") for other in others):
            return end
    return stem
