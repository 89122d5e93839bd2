"""What an image is before anything is colored: in color already, grey, toned, blank, a page of text, a negative.

Looks at a small copy only, reduced to about 16,000 pixels, so that grain and JPEG noise average out. The question is
whether the photograph is in color, not its frame (see `tone`). Measured on 2,008 color photographs of 128 to 144 pixels
and 173 of the years 1905 to 1977, about 320 pixels wide, many of them muted or faded; of the latter and 75 scans in
black and white also copies as grey, as bad sepia (an uneven cast of up to 12 levels, noise) and with something in color
in the frame (`benchmarks.frames`), as JPEG of quality 40 to 95; and on 41 scans of archives:

- color: 99.0 % of the small photographs (a few are in sepia themselves) and 99.4 % of the old ones; no grey copy, no
  sepia, 4 % of the bad one, and 0 to 4 % of prints with something in color in the frame; of the archives' scans just
  the eight that are color photographs. Of photographs muted to a third of their saturation about four in five: the
  others have little color that is not their tone. Sepia of 128 pixels and low quality with crop marks, foxing or inks
  over it is taken for color one time in five. docs/performance.md has both sides, and other thresholds.
- text, blank: all of the generated ones; no photograph in color or grey, and no scan.
- negative: the orange mask of color film is seen on 94 % of those imitated with one mask and contrast, on 59 % of those
  with any (docs/performance.md), and on one of 335 photographs. A black-and-white negative is not told from its
  positive: by tone statistics alone a classifier found 5 % at one false alarm in 200.
"""

from __future__ import annotations

import math
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from colorize.imaging.colorimetry import LUMA_WEIGHTS
from colorize.imaging.tone import ChromaRounding, Toning, toning

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
Grey = NDArray[np.uint8]

COLOR = 1.85  # levels of 255 beyond what the tone explains, in most of the image
TONED = 3.0  # levels of 255 of saturation
BLANK = 24.0  # levels between the 0.5th and the 99.5th percentile
PAPER, STROKES, UNEVEN = 100.0, 7.0, 4.0  # of a page: its light, how much darker strokes make it, its own variation
MASK = 80.0  # levels by which red exceeds blue in the lightest tones of color negative film
MASK_GREEN, MASK_BLUE = 0.7, 0.5  # of the lightest red: more green or blue does not pass the film
_PIXELS = 1 << 14
_STROKE = 9  # pixels of the reduced copy: wider than strokes of a pen, narrower than things


def triage(grey: Image.Image, color: Image.Image | None, toned: Toning) -> Kind:
    """The kind of an image, from small copies: `grey` of mode L, and `color` where the file has color channels.

    `toned` is the `toning_of` of `color`.
    """
    reduced = _reduced(grey)
    if _percentile(np.asarray(reduced), 99.5) - _percentile(np.asarray(reduced), 0.5) < BLANK:
        return "blank"
    if color is not None and toned.beyond > COLOR:
        return "negative" if _has_orange_mask(color) else "color"
    if _is_text(reduced):
        return "text"
    if color is None:
        return "grey"
    return "toned" if toned.saturation > TONED else "grey_as_rgb"


def toning_of(color: Image.Image, pixels: int, rounding: ChromaRounding) -> Toning:
    """What the colors of a small copy of an image of so many pixels are like; see `tone`."""
    reduced = _reduced(color)
    area = reduced.width * reduced.height
    pixels_each = max(1, round(color.width * color.height / area))
    scaled = rounding._replace(block=rounding.block / math.sqrt(pixels / area))
    return toning(np.asarray(reduced.convert("RGB"), np.float32), pixels_each, scaled)


def _is_text(grey: Image.Image) -> bool:
    """Even, light paper once strokes are filled in by a closing, and enough of them."""
    closed = Image.fromarray(filled_in(np.asarray(grey)))
    if _percentile(np.asarray(closed), 50) <= PAPER:
        return False
    light = closed.resize((8, 8), Image.Resampling.BOX).resize(grey.size, Image.Resampling.BICUBIC)
    page, paper = np.asarray(closed, np.float32), np.asarray(light, np.float32)
    strokes = float((page - np.asarray(grey, np.float32)).mean())
    return strokes > STROKES and float((page - paper).std()) < UNEVEN


def _percentile(levels: Grey, percent: float) -> float:
    """`np.percentile`, by counting: several times as fast."""
    counts = np.cumsum(np.bincount(levels.ravel(), minlength=256))
    place = percent / 100 * (levels.size - 1)
    lower, upper = np.searchsorted(counts, (math.floor(place), math.ceil(place)), side="right")
    return float(lower + (upper - lower) * (place - math.floor(place)))


def filled_in(grey: Grey) -> Grey:
    """Morphological closing by a square of `_STROKE` pixels, the edge repeated: what is thinner and dark is filled."""
    return np.asarray(cv2.morphologyEx(grey, cv2.MORPH_CLOSE, np.ones((_STROKE, _STROKE), np.uint8)), np.uint8)


def _has_orange_mask(color: Image.Image) -> bool:
    rgb = np.asarray(_reduced(color).convert("RGB"), np.float32).reshape(-1, 3)
    luma = rgb @ np.array(LUMA_WEIGHTS, np.float32)
    red, green, blue = rgb[luma >= np.percentile(luma, 95)].mean(axis=0)
    most = np.percentile(rgb, 99, axis=0)
    passes = most[1] < MASK_GREEN * most[0] and most[2] < MASK_BLUE * most[0]
    return bool(passes and red > green > blue and red - blue > MASK)


def _reduced(image: Image.Image) -> Image.Image:
    """About `_PIXELS` of the image, in its own mode (L, RGB or YCbCr): conversions cost by pixel, and come after."""
    return image.reduce(max(1, math.isqrt(image.width * image.height // _PIXELS)))
