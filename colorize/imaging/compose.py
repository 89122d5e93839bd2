"""Composes low-resolution color and full-size luminance to full-size color with exactly the same luminance.

The network's ab is upsampled along the image's edges (`upsample.py`) and converted to chroma for each pixel's luma.
Colors outside the sRGB gamut are desaturated instead of clipped, because clipping a channel would change the luminance.
JPEG uses the chroma, by default at half resolution. For lossless formats R and B are rounded, and G is the integer for
which the luma formula gives exactly the input's value.

Colors are computed for sRGB, and converted if the copy has another RGB profile (`rgb_space`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from colorize.imaging.chroma_table import MAX_AB, by_formula, chroma_table
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
from colorize.imaging.upsample import guided_color

Float = NDArray[np.float32]
Offsets = Callable[[Float, Float], tuple[Float, Float]]  # of luma and Lab color: see `chroma_offsets`

_STRIP_PIXELS = 1 << 16  # so that a strip's temporaries fit into the CPU's cache
_RED, _GREEN, _BLUE = (np.float32(w) for w in LUMA_WEIGHTS)


def compose(image: DecodedImage, ab_2hw: NDArray[np.floating], subsampling: Subsampling = "4:2:0") -> Color:
    """Colors `image` with a low-resolution prediction.

    Args:
        image: the decoded image.
        ab_2hw: ab of the whole upright image, float (2, h, w) in about [-110, 110].
        subsampling: of the chroma planes.

    Returns:
        Chroma planes for images that are written as JPEG; otherwise RGB (H, W, 3) of the luma's dtype whose luma is
        `image.luma` in every pixel, computed as its rows are read.

    Raises:
        ValueError: the prediction is not finite.
    """
    ab, offsets = to_stored_layout(ab_2hw, image), offsets_for(image)
    if image.info.output_format == "JPEG":
        luma, info = np.asarray(image.luma), image.info
        is_halved = luma.shape != (info.height, info.width)
        return chroma_planes(luma, ab, "4:4:4" if is_halved else subsampling, offsets)
    return exact_rows(image.luma, ab, offsets)


def offsets_for(image: DecodedImage) -> Offsets | None:
    """The function that converts color to offsets in the color space of the image's copy; None for sRGB."""
    space = rgb_space(image.metadata.icc) if image.info.output_format != "BMP" else None  # BMP has no profile
    return None if space is None else partial(chroma_offsets, space=space)


def to_stored_layout(ab_2hw: NDArray[np.floating], image: DecodedImage) -> Float:
    """Upright color in the layout of the image's file.

    Raises:
        ValueError: the color is not finite.
    """
    ab = unorient(np.asarray(ab_2hw, np.float32), image.info.orientation)
    if not np.isfinite(ab).all():
        raise ValueError("the predicted color is not finite: check the model and its input")
    return ab


def chroma_offsets(luma: Float, ab: Float, space: RgbSpace | None = None) -> tuple[Float, Float]:
    """The differences of R and B from the luma, for ab (2, ...) and `luma` (...), all in units of [0, 1].

    Uses the lightness at which the color has this luma, approximated by one correction step from the lightness of the
    grey. Offsets outside of the space's gamut (None: sRGB) are scaled down together, which preserves hue. Colors are
    limited to sRGB's gamut in wider spaces, too, so that a scan looks the same with each profile.
    """
    red, blue, scale = _offsets(luma, ab, None)
    if space is not None:
        red, blue, scale = _offsets(luma, ab * scale, space)
    return red * scale, blue * scale


def _offsets(luma: Float, ab: Float, space: RgbSpace | None) -> tuple[Float, Float, Float]:
    """The offsets of R and B, and the factor that maps them into the gamut."""
    a, b = ab[0] / np.float32(500), ab[1] / np.float32(200)
    lightness = _lightness if space is None else space.lightness
    first = _lab_rgb(lightness(luma), a, b, space)
    rgb = _lab_rgb(lightness(2 * luma - _luma(first)), a, b, space)
    level = _luma(rgb)
    red, blue = rgb[0] - level, rgb[2] - level
    return red, blue, _gamut_scale(luma, red, rgb[1] - level, blue)


def chroma_planes(luma: Plane, ab: Float, subsampling: Subsampling = "4:2:0", offsets: Offsets | None = None) -> Chroma:
    """Chroma planes for luma (H, W) and ab (2, h, w) in the same layout; with 4:2:0 of half the size, rounded up."""
    stored = luma if subsampling == "4:4:4" else np.asarray(Image.fromarray(luma).reduce(2))
    color = guided_color(ab, stored)
    cb, cr = np.empty_like(stored), np.empty_like(stored)
    formula = chroma if offsets is None else partial(chroma, offsets=offsets)
    use_table = offsets is None and color.max_abs <= MAX_AB  # only for sRGB: a table per profile would not pay off
    levels = chroma_table(chroma) if use_table else partial(by_formula, formula)
    for rows in strips(stored):
        cb[rows], cr[rows] = levels(stored[rows], color.rows(rows, _normalized(stored[rows])))
    return Chroma(cb, cr)


def chroma(luma: Float, ab: Float, offsets: Offsets | None = None) -> tuple[Float, Float]:
    """Cb and Cr in [0, 255] for ab (2, ...) and `luma` (...) in [0, 1]; default: `offsets` for sRGB."""
    red, blue = (offsets or chroma_offsets)(luma, ab)
    return 128 + (255 * CB_SCALE) * blue, 128 + (255 * CR_SCALE) * red


def exact_rgb(luma: Plane, ab: Float) -> Plane:
    """RGB (H, W, 3) whose luma is exactly `luma` (H, W), for ab (2, h, w) in the same layout."""
    return exact_rows(luma, ab)[:]


def exact_rows(luma: Pixels, ab: Float, offsets: Offsets | None = None) -> Rows:
    """Like `exact_rgb`, but computed as its rows are read."""
    color = guided_color(ab, luma)

    def read(rows: slice) -> Plane:
        part = luma[rows]
        rgb = np.empty((*part.shape, 3), part.dtype)
        for strip in strips(part):
            normalized = _normalized(part[strip])
            within = slice(rows.start + strip.start, rows.start + strip.stop)
            red, blue = (offsets or chroma_offsets)(normalized, color.rows(within, normalized))
            rgb[strip] = solve_rgb(part[strip], red, blue)
        return rgb

    return Rows((*luma.shape, 3), luma.dtype, read)


def srgb_with_lightness_of(luma: Plane, ab: Float) -> tuple[Float, Float, Float]:
    """Clipped sRGB in [0, 1] for ab (2, ...) with the L* of the grey `luma` (...), uint8 or uint16."""
    return _lab_rgb(_lightness(_normalized(luma)), ab[0] / np.float32(500), ab[1] / np.float32(200))


def solve_rgb(luma: Plane, red: Float, blue: Float) -> Plane:
    """Integer RGB (..., 3) with exactly the luma `luma`, near the offsets `red` and `blue`.

    The luma formula is Pillow's for mode "L" with 8 bits, and round(0.299 R + 0.587 G + 0.114 B) with 16 bits. A step
    of G changes the luma by less than 1, so there is always a solution; if G is out of range, R and B change by a
    level.
    """
    white = np.float32(np.iinfo(luma.dtype).max)
    y = luma.astype(np.float32)
    r, b = np.rint(y + white * red), np.rint(y + white * blue)
    g = _solve_green(y, r, b)
    outside = (g < 0) | (g > white)
    if outside.any():
        r[outside], g[outside], b[outside] = _adjust_red_and_blue(y[outside], r[outside], b[outside], white)
    return np.stack((r, g, b), axis=-1).astype(luma.dtype)


def _solve_green(y: Float, r: Float, b: Float) -> Float:
    return np.asarray(np.rint((y - _RED * r - _BLUE * b) / _GREEN), np.float32)


def _adjust_red_and_blue(y: Float, r: Float, b: Float, white: np.float32) -> tuple[Float, Float, Float]:
    """R and B changed by at most one level so that G is in range, or grey if there is no solution."""
    solved = y.copy(), y.copy(), y.copy()
    unsolved = np.ones(y.shape, dtype=bool)
    for dr, db in ((0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (1, 1), (-1, 1), (1, -1)):
        candidate = r + dr, _solve_green(y, r + dr, b + db), b + db
        fits = unsolved & np.logical_and.reduce([(c >= 0) & (c <= white) for c in candidate])
        for channel, value in zip(solved, candidate, strict=True):
            channel[fits] = value[fits]
        unsolved &= ~fits
    return solved


def _gamut_scale(luma: Float, *offsets: Float) -> Float:
    """The largest factor, at most 1, for which luma plus each offset is in [0, 1]."""
    above = 1 / np.maximum(1 - luma, np.float32(1e-6))
    below = -1 / np.maximum(luma, np.float32(1e-6))
    excess = np.ones_like(luma)
    for offset in offsets:
        np.maximum(excess, offset * above, out=excess)
        np.maximum(excess, offset * below, out=excess)
    return np.reciprocal(excess)


def _lab_rgb(f: Float, a: Float, b: Float, space: RgbSpace | None = None) -> tuple[Float, Float, Float]:
    """Clipped RGB in [0, 1] of the Lab color with f = (L* + 16) / 116, a = a* / 500 and b = b* / 200 (CIE 1976)."""
    white = D65_WHITE
    x, y, z = _inverse_lab_f(f + a), _inverse_lab_f(f), _inverse_lab_f(f - b)
    if space is not None:
        return space.encoded(x, y, z)
    red, green, blue = (
        _gamma(np.float32(m[0] * white[0]) * x + np.float32(m[1] * white[1]) * y + np.float32(m[2] * white[2]) * z)
        for m in XYZ_TO_RGB
    )
    return red, green, blue


def _inverse_lab_f(f: Float) -> Float:
    """Inverse of CIE 1976's cube root with its linear part."""
    threshold = np.float32(LAB_THRESHOLD ** (1 / 3))
    upper = np.maximum(f, threshold)
    linear: Float = (np.minimum(f, threshold) - threshold) / np.float32(LAB_SLOPE)
    return upper * upper * upper + linear


def _gamma(linear: Float) -> Float:
    return _interpolated("gamma", linear)


def _lightness(grey: Float) -> Float:
    """(L* + 16) / 116 of sRGB grey in [0, 1]."""
    return _interpolated("lightness", grey)


def _interpolated(name: str, value: Float) -> Float:
    return look_up(_table(name), value)


@lru_cache(maxsize=2)
def _table(name: str) -> Float:
    """`color.linear_to_rgb` or `color.grey_to_lightness` at evenly spaced values, in numpy."""
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


def _normalized(luma: Plane) -> Float:
    return luma.astype(np.float32) / np.float32(np.iinfo(luma.dtype).max)


def strips(plane: Pixels) -> Iterator[slice]:
    """Splits a plane into runs of rows."""
    height, width = plane.shape
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))
