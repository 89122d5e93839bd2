"""RGB color spaces of matrix/TRC ICC profiles (ICC.1:2022): three tone curves and a matrix.

Adobe RGB, ProPhoto RGB, Display P3 and most scanners' profiles are of this kind. If a copy has such a profile, colors
must be computed for its space, because the same numbers would be displayed as other colors.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from colorize.imaging.colorimetry import D65_WHITE, LAB_OFFSET, LAB_SLOPE, LAB_THRESHOLD, RGB_TO_XYZ
from colorize.imaging.formats.icc import for_rgb, tags_of

Float = NDArray[np.float32]
Curve = NDArray[np.float64]

STEPS = (1 << 16) - 1  # of the tables
ALIKE = 5e-3  # maximum difference of curves and matrix from sRGB's to be treated as sRGB
# Bradford adaptation from the profile connection space's white, D50, to D65 (ICC.1:2022, annex E; Lindbloom).
_D50_TO_D65 = np.array(
    [[0.9555766, -0.0230393, 0.0631636], [-0.0282895, 1.0099416, 0.0210077], [0.0122982, -0.0204830, 1.3299098]]
)
_COLORANTS, _CURVES = (b"rXYZ", b"gXYZ", b"bXYZ"), (b"rTRC", b"gTRC", b"bTRC")


@dataclass(frozen=True, eq=False)
class RgbSpace:
    """An RGB space as lookup tables.

    Attributes:
        from_xyz: matrix (3, 3) from X, Y and Z, relative to D65's, to the space's linear RGB.
        encode: encoded values of the channels at evenly spaced linear values in [0, 1], (3, STEPS + 1).
        luminance: linear luminance at evenly spaced encoded greys in [0, 1], (STEPS + 1,).
    """

    from_xyz: Float
    encode: Float
    luminance: Float

    def lightness(self, grey: Float) -> Float:
        """(L* + 16) / 116 of a grey in [0, 1]."""
        y = look_up(self.luminance, grey)
        return np.where(y > LAB_THRESHOLD, np.cbrt(y), np.float32(LAB_SLOPE) * y + np.float32(LAB_OFFSET))

    def encoded(self, x: Float, y: Float, z: Float) -> tuple[Float, Float, Float]:
        """Encoded RGB in [0, 1] of X, Y and Z relative to white, clipped to the space's gamut."""
        mixed = [row[0] * x + row[1] * y + row[2] * z for row in self.from_xyz]
        red, green, blue = (look_up(table, channel) for table, channel in zip(self.encode, mixed, strict=True))
        return red, green, blue


@lru_cache(maxsize=16)
def rgb_space(profile: bytes | None) -> RgbSpace | None:
    """The color space of the RGB copy of an image with this profile; None for sRGB.

    The copy of an image with a grey profile has the same tone curve (see `icc.for_rgb`). Profiles that only have lookup
    tables, and invalid ones, are treated as sRGB.
    """
    tags = tags_of(for_rgb(profile) or b"")
    try:
        colorants = np.array([struct.unpack_from(">3i", tags[name], 8) for name in _COLORANTS]).T / 65536
        curves = [_curve(tags[name]) for name in _CURVES]
        matrix = np.linalg.inv(_D50_TO_D65 @ colorants) * np.array(D65_WHITE)
    except (KeyError, struct.error, ValueError, ZeroDivisionError, np.linalg.LinAlgError):
        return None
    matrix /= matrix.sum(axis=1, keepdims=True)  # map white to white in spite of the profile's rounding
    if not np.isfinite(matrix).all() or not all(_is_usable(curve) for curve in curves):
        return None
    if _is_srgb(matrix, curves):
        return None
    steps = np.linspace(0, 1, STEPS + 1)
    encode = np.stack([np.interp(steps, np.maximum.accumulate(curve), steps) for curve in curves])
    luminance = np.asarray(np.linalg.inv(matrix)[1] @ np.stack(curves), np.float32)
    return RgbSpace(matrix.astype(np.float32), encode.astype(np.float32), luminance)


def _is_srgb(matrix: NDArray[np.float64], curves: Sequence[Curve]) -> bool:
    srgb = np.linalg.inv(np.array(RGB_TO_XYZ)) * np.array(D65_WHITE)
    steps = np.linspace(0, 1, STEPS + 1)
    curve = np.where(steps > 0.04045, ((steps + 0.055) / 1.055) ** 2.4, steps / 12.92)
    return bool(np.abs(matrix - srgb).max() < ALIKE and all(np.abs(own - curve).max() < ALIKE for own in curves))


def _curve(data: bytes) -> Curve:
    """A tone curve from encoded to linear values, at evenly spaced points in [0, 1]."""
    steps = np.linspace(0, 1, STEPS + 1)
    if data[:4] == b"para":
        return _parametric(data, steps)
    if data[:4] != b"curv":
        raise ValueError("no tone curve")
    (count,) = struct.unpack_from(">I", data, 8)
    if count == 0:
        return steps
    if count == 1:
        gamma: float = struct.unpack_from(">H", data, 12)[0] / 256
        return np.asarray(np.power(steps, gamma))
    values = np.frombuffer(data, ">u2", count, 12) / 65535
    return np.interp(steps, np.linspace(0, 1, count), values)


def _parametric(data: bytes, x: Curve) -> Curve:
    """A parametricCurveType (ICC.1:2022, 10.18): a power function with a linear part."""
    (kind,) = struct.unpack_from(">H", data, 8)
    names = ("g", "gab", "gabc", "gabcd", "gabcdef")[kind] if kind < 5 else ""
    values = (number / 65536 for number in struct.unpack_from(f">{len(names)}i", data, 12))
    p: Mapping[str, float] = {**dict.fromkeys("abcdefg", 0.0), "a": 1.0, **dict(zip(names, values, strict=True))}
    power = np.power(np.maximum(p["a"] * x + p["b"], 0), p["g"])
    match kind:
        case 0:
            curve = power
        case 1:
            curve = np.where(x >= -p["b"] / p["a"], power, 0)
        case 2:
            curve = np.where(x >= -p["b"] / p["a"], power, 0) + p["c"]
        case 3:
            curve = np.where(x >= p["d"], power, p["c"] * x)
        case 4:
            curve = np.where(x >= p["d"], power + p["e"], p["c"] * x + p["f"])
        case _:
            raise ValueError("unknown type of tone curve")
    return np.clip(curve, 0, 1)


def _is_usable(curve: Curve) -> bool:
    """Whether a curve is monotonic and covers most of the range, so that it can be inverted."""
    return bool(np.isfinite(curve).all() and curve[-1] - curve[0] > 0.5 and np.diff(curve).min() > -1e-3)


def look_up(table: Float, value: Float) -> Float:
    """Nearest-neighbor lookup in a table of evenly spaced values in [0, 1]; other values are clipped."""
    found: Float = table.take((value * np.float32(STEPS) + np.float32(0.5)).astype(np.intp), mode="clip")
    return found
