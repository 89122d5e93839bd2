"""`--hints FILE`: color hints from a CSV or JSON file."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ImageColor

from colorize.errors import UsageError, one_line
from colorize.imaging.colorimetry import D65_WHITE, LAB_OFFSET, LAB_SLOPE, LAB_THRESHOLD, RGB_TO_XYZ
from colorize.imaging.formats import ImageDecodeError, ImageInfo
from colorize.imaging.hinting import Spots
from colorize.storage.root import read_file

COLUMNS = ("path", "x", "y", "color")
_SHOWN = 80  # characters of a bad value in an error
MOST_BYTES = 16 << 20  # a few hundred thousand hints, twenty times as large in memory


@dataclass(frozen=True, slots=True)
class Hint:
    """A color at a pixel of the upright image."""

    x: float
    y: float
    color: str  # as the user wrote it
    a: float
    b: float


@dataclass(frozen=True)
class Hints:
    """Hints by image path."""

    of: Mapping[str, tuple[Hint, ...]]

    def spots(self, path: str, info: ImageInfo) -> Spots:
        """The hints of an image, with coordinates as fractions of its sides.

        Raises:
            ImageDecodeError: a hint is outside of the image (`bad_hint`).
        """
        width, height = (info.height, info.width) if info.orientation >= 5 else (info.width, info.height)
        own = self.of.get(path, ())
        for hint in own:
            if not (0 <= hint.x < width and 0 <= hint.y < height):
                place = f"x={hint.x:g}, y={hint.y:g}"
                raise ImageDecodeError(
                    "bad_hint", f"the hint at {place} is outside the image, which is {width} x {height} pixels"
                )
        spots = [(_middle(hint.x, width), _middle(hint.y, height), hint.a, hint.b) for hint in own]
        return np.array(spots, np.float32).reshape(-1, 4)

    def digest(self, path: str, settings_sha256: str) -> str:
        """The image's `settings_sha256`: of the settings and its hints."""
        if path not in self.of:
            return settings_sha256
        own = [(hint.x, hint.y, hint.a, hint.b) for hint in self.of[path]]
        return hashlib.sha256(f"{settings_sha256}{json.dumps(own)}".encode()).hexdigest()

    def require_known(self, paths: Iterable[str]) -> None:
        """Raises UsageError for hints whose image is not in `paths`."""
        unknown = sorted(self.of.keys() - set(paths))
        if unknown:
            raise UsageError(f"--hints names {unknown[0]!r}, which is not an input: write paths as in the input")


NO_HINTS = Hints({})


def read_hints(uri: str) -> Hints:
    """The hints in a CSV file with the columns path, x, y and color, or in a JSON list of such objects.

    Raises:
        UsageError: unreadable or invalid file; the message names the entry.
    """
    try:
        text = read_file(uri, MOST_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the hints {uri}: {one_line(error)}") from None
    found: dict[str, list[Hint]] = defaultdict(list)
    for where, entry in _entries(text, uri):
        found[str(entry["path"])].append(_hint(entry, where))
    return Hints({path: tuple(hints) for path, hints in found.items()})


def _middle(position: float, side: int) -> float:
    """The center of the pixel at a position, as a fraction of the side."""
    return (int(position) + 0.5) / side


def _entries(text: str, uri: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Each entry with its name for errors."""
    if text.lstrip().startswith(("[", "{")):
        try:
            listed = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"the hints {uri} are not valid JSON: {one_line(error)}") from None
        entries = [(f"entry {number} of {uri}", entry) for number, entry in enumerate(listed, 1)]
    else:
        reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
        try:
            entries = [(f"line {reader.line_num} of {uri}", row) for row in reader]
        except csv.Error as error:
            raise UsageError(f"the hints {uri} are not valid CSV: {one_line(error)}") from None
    for where, entry in entries:
        if not isinstance(entry, Mapping) or any(entry.get(name) in (None, "") for name in COLUMNS):
            raise UsageError(f"{where} is not a hint: it needs {', '.join(COLUMNS[:-1])} and {COLUMNS[-1]}")
    return entries


def _hint(entry: Mapping[str, Any], where: str) -> Hint:
    color = str(entry["color"]).strip()
    try:
        x, y = float(entry["x"]), float(entry["y"])
    except (TypeError, ValueError, OverflowError):
        given = f"x={str(entry['x'])[:_SHOWN]!r}, y={str(entry['y'])[:_SHOWN]!r}"
        raise UsageError(f"{where}: {given} are not pixel coordinates") from None
    try:
        red, green, blue = ImageColor.getrgb(color)[:3]
        if max(red, green, blue) > 255:  # Pillow takes any number
            raise ValueError(color)
    except ValueError:
        raise UsageError(
            f"{where}: {color[:_SHOWN]!r} is not a color: write #b03060, rgb(176, 48, 96) or maroon"
        ) from None
    return Hint(x, y, color, *_ab((red, green, blue)))


def _ab(rgb: tuple[int, int, int]) -> tuple[float, float]:
    """a* and b* of 8-bit sRGB. Like `color.rgb_to_lab`, without torch."""
    unit = np.array(rgb) / 255
    linear = np.where(unit > 0.04045, ((unit + 0.055) / 1.055) ** 2.4, unit / 12.92)
    t = np.array(RGB_TO_XYZ) @ linear / np.array(D65_WHITE)
    x, y, z = np.where(t > LAB_THRESHOLD, np.cbrt(t), LAB_SLOPE * t + LAB_OFFSET)
    return round(float(500 * (x - y)), 4), round(float(200 * (y - z)), 4)
