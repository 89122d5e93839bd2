"""Low-resolution color and full-size luminance -> full-size color, the luminance kept exactly.

The network's Lab color is brought to the image's resolution along its edges (`upsample.py`), turned into chroma for
each pixel's own luma, and reduced towards grey where the sRGB gamut ends, so that nothing is ever clipped: a clipped
channel would change the luminance. JPEG takes the chroma, by default at half resolution; for lossless
formats R and B are rounded and G is the integer that makes the luma formula give exactly the input's value.

Color is computed for sRGB. Where the copy carries another RGB profile, it is what looks the same there (`rgb_space`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from colorize.imaging.chroma_table import REACH, by_formula, chroma_table
from colorize.imaging.colorimetry import (
    CB_SCALE,
    CR_SCALE,
    D65_WHITE,
    LAB_OFFSET,
    LAB_SLOPE,
    LAB_THRESHOLD,
    LUMA_WEIGHTS,
    XYZ_TO_RGB,
)
from colorize.imaging.formats.decoded_image import Chroma, Color, DecodedImage, Pixels, Plane, Rows, Subsampling
from colorize.imaging.formats.orientation import unorient
from colorize.imaging.rgb_space import STEPS, RgbSpace, look_up, rgb_space
from colorize.imaging.upsample import guide

Float = NDArray[np.float32]
Offsets = Callable[[Float, Float], tuple[Float, Float]]  # of luma and Lab color: see `chroma_offsets`

_STRIP_PIXELS = 1 << 16  # a strip's temporaries stay in the processor's cache
_RED, _GREEN, _BLUE = (np.float32(w) for w in LUMA_WEIGHTS)


def compose(image: DecodedImage, ab_2hw: NDArray[np.floating], subsampling: Subsampling = "4:2:0") -> Color:
    """Color `image` with a low-resolution prediction.

    `ab_2hw` is upright Lab color, float (2, h, w) in about [-110, 110], and covers the whole image. Returns
    chroma planes, subsampled as told, for images that are written as JPEG, else RGB (H, W, 3) of the luma's type,
    whose luma is `image.luma` in every pixel; it is made as its rows are read.

    Raises:
        ValueError: the prediction is not finite.
    """
    ab, offsets = as_stored(ab_2hw, image), offsets_for(image)
    if image.info.output_format == "JPEG":
        luma, info = np.asarray(image.luma), image.info
        is_halved = luma.shape != (info.height, info.width)
        return chroma_planes(luma, ab, "4:4:4" if is_halved else subsampling, offsets)
    return exact_rows(image.luma, ab, offsets)


def offsets_for(image: DecodedImage) -> Offsets | None:
    """How color becomes offsets in the color space that the image's copy will be shown in; None for sRGB."""
    space = rgb_space(image.metadata.icc) if image.info.output_format != "BMP" else None  # which holds no profile
    return None if space is None else partial(chroma_offsets, space=space)


def as_stored(ab_2hw: NDArray[np.floating], image: DecodedImage) -> Float:
    """Upright color in the layout of the image's file.

    Raises:
        ValueError: the color is not finite.
    """
    ab = unorient(np.asarray(ab_2hw, np.float32), image.info.orientation)
    if not np.isfinite(ab).all():
        raise ValueError("the predicted color holds values that are no numbers: the model or its input is at fault")
    return ab


def chroma_offsets(luma: Float, ab: Float, space: RgbSpace | None = None) -> tuple[Float, Float]:
    """How far R and B lie from the luma, both in [0, 1]: what Lab color `ab` (2, ...) means at `luma` (...).

    The lightness is the one at which the color has this luma, found by one correction step from the lightness of
    the grey. Offsets that leave the gamut of the space (None: sRGB) are scaled down together, which keeps their hue. A
    wider space shows no more color than sRGB would, or one scan would look different under each profile.
    """
    red, blue, scale = _offsets(luma, ab, None)
    if space is not None:
        red, blue, scale = _offsets(luma, ab * scale, space)
    return red * scale, blue * scale


def _offsets(luma: Float, ab: Float, space: RgbSpace | None) -> tuple[Float, Float, Float]:
    """The offsets of R and B, and the factor that brings them into the gamut."""
    a, b = ab[0] / np.float32(500), ab[1] / np.float32(200)
    lightness = _lightness if space is None else space.lightness
    first = _lab_rgb(lightness(luma), a, b, space)
    rgb = _lab_rgb(lightness(2 * luma - _luma(first)), a, b, space)
    level = _luma(rgb)
    red, blue = rgb[0] - level, rgb[2] - level
    return red, blue, _gamut_scale(luma, red, rgb[1] - level, blue)


def chroma_planes(luma: Plane, ab: Float, subsampling: Subsampling = "4:2:0", offsets: Offsets | None = None) -> Chroma:
    """Chroma planes for luma (H, W) and color (2, h, w) in the same layout; 4:2:0 is half the size, rounded up."""
    stored = luma if subsampling == "4:4:4" else np.asarray(Image.fromarray(luma).reduce(2))
    color = guide(ab, stored)
    cb, cr = np.empty_like(stored), np.empty_like(stored)
    formula = chroma if offsets is None else partial(chroma, offsets=offsets)
    tabled = offsets is None and color.largest <= REACH  # a table of each profile would cost more than it saves
    levels = chroma_table(chroma) if tabled else partial(by_formula, formula)
    for rows in strips(stored):
        cb[rows], cr[rows] = levels(stored[rows], color.rows(rows, _unit(stored[rows])))
    return Chroma(cb, cr)


def chroma(luma: Float, ab: Float, offsets: Offsets | None = None) -> tuple[Float, Float]:
    """Cb and Cr in [0, 255] of Lab color `ab` (2, ...) at `luma` (...) in [0, 1]; sRGB, or by the offsets given."""
    red, blue = (offsets or chroma_offsets)(luma, ab)
    return 128 + (255 * CB_SCALE) * blue, 128 + (255 * CR_SCALE) * red


def exact_rgb(luma: Plane, ab: Float) -> Plane:
    """RGB (H, W, 3) whose luma is exactly `luma` (H, W), for color (2, h, w) in the same layout."""
    return exact_rows(luma, ab)[:]


def exact_rows(luma: Pixels, ab: Float, offsets: Offsets | None = None) -> Rows:
    """`exact_rgb`, made as its rows are read."""
    color = guide(ab, luma)

    def read(rows: slice) -> Plane:
        part = luma[rows]
        rgb = np.empty((*part.shape, 3), part.dtype)
        for strip in strips(part):
            unit = _unit(part[strip])
            within = slice(rows.start + strip.start, rows.start + strip.stop)
            red, blue = (offsets or chroma_offsets)(unit, color.rows(within, unit))
            rgb[strip] = solve_rgb(part[strip], red, blue)
        return rgb

    return Rows((*luma.shape, 3), luma.dtype, read)


def lab_strip(luma: Plane, ab: Float) -> tuple[Float, Float, Float]:
    """sRGB in [0, 1], clipped, of Lab color `ab` (2, ...) with the L* of the grey `luma` (...), uint8 or uint16."""
    return _lab_rgb(_lightness(_unit(luma)), ab[0] / np.float32(500), ab[1] / np.float32(200))


def solve_rgb(luma: Plane, red: Float, blue: Float) -> Plane:
    """Integer RGB (..., 3) near the offsets `red` and `blue` from luma, whose luma formula gives exactly `luma`.

    8 bits: Pillow's formula for mode "L"; 16 bits: round(0.299 R + 0.587 G + 0.114 B). One step of G changes
    either by less than 1, so some G always fits; where it lies outside the range, R and B give way by a level.
    """
    white = np.float32(np.iinfo(luma.dtype).max)
    y = luma.astype(np.float32)
    r, b = np.rint(y + white * red), np.rint(y + white * blue)
    g = _solve_green(y, r, b)
    outside = (g < 0) | (g > white)
    if outside.any():
        r[outside], g[outside], b[outside] = _give_way(y[outside], r[outside], b[outside], white)
    return np.stack((r, g, b), axis=-1).astype(luma.dtype)


def _solve_green(y: Float, r: Float, b: Float) -> Float:
    return np.asarray(np.rint((y - _RED * r - _BLUE * b) / _GREEN), np.float32)


def _give_way(y: Float, r: Float, b: Float, white: np.float32) -> tuple[Float, Float, Float]:
    """The nearest R and B, a level away at most, for which G is in range; else grey."""
    solved = y.copy(), y.copy(), y.copy()
    left = np.ones(y.shape, dtype=bool)
    for dr, db in ((0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (1, 1), (-1, 1), (1, -1)):
        near = r + dr, _solve_green(y, r + dr, b + db), b + db
        fits = left & np.logical_and.reduce([(c >= 0) & (c <= white) for c in near])
        for channel, value in zip(solved, near, strict=True):
            channel[fits] = value[fits]
        left &= ~fits
    return solved


def _gamut_scale(luma: Float, *offsets: Float) -> Float:
    """The largest factor, at most 1, by which all offsets stay within [0, 1] around the luma."""
    above = 1 / np.maximum(1 - luma, np.float32(1e-6))
    below = -1 / np.maximum(luma, np.float32(1e-6))
    excess = np.ones_like(luma)
    for offset in offsets:
        np.maximum(excess, offset * above, out=excess)
        np.maximum(excess, offset * below, out=excess)
    return np.reciprocal(excess)


def _lab_rgb(f: Float, a: Float, b: Float, space: RgbSpace | None = None) -> tuple[Float, Float, Float]:
    """RGB in [0, 1], clipped, of the Lab color with (L* + 16) / 116 = f, a* / 500 and b* / 200."""
    white = D65_WHITE
    x, y, z = _curve_inverse(f + a), _curve_inverse(f), _curve_inverse(f - b)
    if space is not None:
        return space.encoded(x, y, z)
    red, green, blue = (
        _gamma(np.float32(m[0] * white[0]) * x + np.float32(m[1] * white[1]) * y + np.float32(m[2] * white[2]) * z)
        for m in XYZ_TO_RGB
    )
    return red, green, blue


def _curve_inverse(f: Float) -> Float:
    """Undo the cube root of CIE 1976 and the line below its threshold."""
    bend = np.float32(LAB_THRESHOLD ** (1 / 3))
    upper = np.maximum(f, bend)
    line: Float = (np.minimum(f, bend) - bend) / np.float32(LAB_SLOPE)
    return upper * upper * upper + line


def _gamma(linear: Float) -> Float:
    return _look_up("gamma", linear)


def _lightness(grey: Float) -> Float:
    """(L* + 16) / 116 of sRGB grey in [0, 1]."""
    return _look_up("lightness", grey)


def _look_up(name: str, value: Float) -> Float:
    return look_up(_table(name), value)


@lru_cache(maxsize=2)
def _table(name: str) -> Float:
    """`color.linear_to_rgb` or `color.grey_to_lightness` at evenly spaced values, in numpy: see `colorimetry`."""
    steps = np.linspace(0, 1, STEPS + 1)
    if name == "gamma":
        values = np.where(steps > 0.0031308, 1.055 * steps ** (1 / 2.4) - 0.055, 12.92 * steps)
    else:
        linear = np.where(steps > 0.04045, ((steps + 0.055) / 1.055) ** 2.4, steps / 12.92)
        values = np.where(linear > LAB_THRESHOLD, np.cbrt(linear), LAB_SLOPE * linear + LAB_OFFSET)
    return values.astype(np.float32)


def _luma(rgb: tuple[Float, Float, Float]) -> Float:
    luma: Float = _RED * rgb[0] + _GREEN * rgb[1] + _BLUE * rgb[2]
    return luma


def _unit(luma: Plane) -> Float:
    return luma.astype(np.float32) / np.float32(np.iinfo(luma.dtype).max)


def strips(plane: Pixels) -> Iterator[slice]:
    """Runs of rows that together make up the plane."""
    height, width = plane.shape
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))
