"""What a picture is before anything is colored: in color already, grey, toned, blank, a page of text, a negative.

Looks at a small copy only, reduced to about 16,000 pixels, so that grain and JPEG noise average out. Measured on 803
color photographs (every 45th of `../shared/data/photos`, 128 px), their grey copies, 402 bad sepia copies (an uneven
cast of up to 12 levels, noise, JPEG quality 40 to 95), `../shared/data/archive`, 40 generated pages and 100 blanks:

- color: 97 % of the photographs are above `COLOR`, no grey copy, and of the real scans just the eight that are color
  photographs (the others stay below 1.5); of the bad sepia copies one in ten is taken for color.
- text, blank: all of the generated ones; no photograph in color or grey, and no scan.
- negative: the orange mask of color film is seen on 94 % of those imitated with one mask and contrast, on 59 % of those
  with any (docs/performance.md), and on one of 335 photographs. A black-and-white negative is not told from its
  positive: by tone statistics alone a classifier found 5 % at one false alarm in 200.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from colorize.imaging.colorimetry import LUMA_WEIGHTS

Kind = Literal["color", "grey", "grey_as_rgb", "toned", "blank", "text", "negative"]
NAMES: dict[Kind, str] = {
    "color": "was in color already",
    "grey": "grey",
    "grey_as_rgb": "grey, stored in color",
    "toned": "toned",
    "blank": "seems blank",
    "text": "seems to be a page of text",
    "negative": "seems to be a color negative",
}
Float = NDArray[np.float32]

COLOR = 6.0  # levels of 255: what is left of color without its tone curve and without a gradient across the picture
TONED = 3.0  # mean of max(R, G, B) - min(R, G, B)
BLANK = 24.0  # levels between the 0.5th and the 99.5th percentile
PAPER, STROKES, UNEVEN = 100.0, 7.0, 4.0  # of a page: its light, how much darker strokes make it, its own variation
MASK = 80.0  # levels by which red exceeds blue in the lightest tones of color negative film
MASK_GREEN, MASK_BLUE = 0.7, 0.5  # of the lightest red: more green or blue does not pass the film
_PIXELS = 1 << 14
_TONES = 16
_STROKE = 9  # pixels of the reduced copy: wider than strokes of a pen, narrower than things


def triage(grey: Image.Image, color: Image.Image | None, colorful: float) -> Kind:
    """The kind of a picture, from small copies: `grey` of mode L, and `color` where the file has color channels.

    `colorful` is the `colorfulness` of `color`.
    """
    luma = np.asarray(_reduced(grey), np.float32)
    if float(np.subtract(*np.percentile(luma, (99.5, 0.5)))) < BLANK:
        return "blank"
    if color is not None and colorful > COLOR:
        return "negative" if _has_orange_mask(color) else "color"
    if _is_text(_reduced(grey)):
        return "text"
    if color is None:
        return "grey"
    return "toned" if _saturation(color) > TONED else "grey_as_rgb"


def colorfulness(image: Image.Image) -> float:
    """How much color a picture already has, in levels of 255; 0 for grey, and little for toned prints.

    The standard deviation of the opponent colors R - G and (R + G) / 2 - B (Hasler and Suesstrunk, 2003) around
    their mean at the same tone and a gradient across the picture. A sepia or blue-toned print has one hue for each
    tone, and an old one fades towards one side, so it measures near 0.
    """
    rgb = np.asarray(_reduced(image.convert("RGB")), np.float32)
    levels = rgb @ np.array(LUMA_WEIGHTS, np.float32) * (_TONES / 256)
    tone = np.minimum(levels, _TONES - 1).astype(np.intp)
    opponents = rgb[..., 0] - rgb[..., 1], (rgb[..., 0] + rgb[..., 1]) / 2 - rgb[..., 2]
    rests = [_beyond_tone(np.asarray(plane, np.float32), tone) for plane in opponents]
    return math.sqrt(sum(float(np.square(rest).mean()) for rest in rests))


def _beyond_tone(plane: Float, tone: NDArray[np.intp]) -> Float:
    """What is left of a plane (H, W) without its mean at each tone and its gradient."""
    counts = np.maximum(np.bincount(tone.ravel(), minlength=_TONES), 1)
    rest = plane - (np.bincount(tone.ravel(), plane.ravel(), minlength=_TONES) / counts)[tone]
    height, width = plane.shape
    down = (np.arange(height) - (height - 1) / 2)[:, None]
    across = (np.arange(width) - (width - 1) / 2)[None]
    for axis in (down, across):
        rest = rest - axis * (rest * axis).mean() / max(float((axis * axis).mean()), 1e-9)
    return np.asarray(rest, np.float32)


def _is_text(grey: Image.Image) -> bool:
    """Even, light paper once strokes are filled in by a closing, and enough of them."""
    closed = grey.filter(ImageFilter.MaxFilter(_STROKE)).filter(ImageFilter.MinFilter(_STROKE))
    light = closed.resize((8, 8), Image.Resampling.BOX).resize(grey.size, Image.Resampling.BICUBIC)
    page, paper = np.asarray(closed, np.float32), np.asarray(light, np.float32)
    strokes = float((page - np.asarray(grey, np.float32)).mean())
    return float(np.median(page)) > PAPER and strokes > STROKES and float((page - paper).std()) < UNEVEN


def _has_orange_mask(color: Image.Image) -> bool:
    rgb = np.asarray(_reduced(color.convert("RGB")), np.float32).reshape(-1, 3)
    luma = rgb @ np.array(LUMA_WEIGHTS, np.float32)
    red, green, blue = rgb[luma >= np.percentile(luma, 95)].mean(axis=0)
    most = np.percentile(rgb, 99, axis=0)
    passes = most[1] < MASK_GREEN * most[0] and most[2] < MASK_BLUE * most[0]
    return bool(passes and red > green > blue and red - blue > MASK)


def _saturation(color: Image.Image) -> float:
    rgb = np.asarray(_reduced(color.convert("RGB")), np.float32)
    return float((rgb.max(axis=2) - rgb.min(axis=2)).mean())


def _reduced(image: Image.Image) -> Image.Image:
    return image.reduce(max(1, math.isqrt(image.width * image.height // _PIXELS)))
