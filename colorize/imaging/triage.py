"""Triage: classifies an image before coloring as color, grey, toned, blank, a page of text, or a negative.

Uses a small copy of about 16,000 pixels, which averages out grain and JPEG noise. Only the photograph counts, not its
frame (see `tone`). Measured on 2,008 color photographs of 128 to 144 pixels and 173 from 1905 to 1977, about 320 pixels
wide, many of them muted or faded; on copies of the latter and of 75 black-and-white scans: grey, bad sepia (an uneven
cast of up to 12 levels, noise), and with color in the frame (`benchmarks.frames`), as JPEG of quality 40 to 95; and on
41 archive scans:

- Classified as color: 99.0 % of the small photographs (a few are sepia) and 99.4 % of the old ones; no grey and no
  sepia copies, 4 % of bad sepia, 0 to 4 % of prints with color in the frame, and exactly the eight color photographs
  among the archive scans. About 80 % of photographs muted to a third of their saturation; the others have little color
  besides their tone. 20 % of sepia copies of 128 pixels and low quality with crop marks, foxing or ink.
  docs/performance.md has all error rates, and other thresholds.
- Classified as text, blank: all generated ones; no color or grey photograph, and no scan.
- Classified as negative: 94 % of simulated color negatives with one mask and contrast, 59 % with random ones
  (docs/performance.md), and one of 335 photographs. Black-and-white negatives are not distinguished from positives: a
  classifier on tone statistics detected 5 % at one false alarm in 200.
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
    "color": "already in color",
    "grey": "grey",
    "grey_as_rgb": "grey, stored as RGB",
    "toned": "toned",
    "blank": "probably blank",
    "text": "probably a page of text",
    "negative": "probably a color negative",
}
Float = NDArray[np.float32]
Grey = NDArray[np.uint8]

COLOR = 1.85  # minimum color besides the tone, in levels of 255 (`Toning.colorfulness`)
TONED = 3.0  # minimum saturation in levels of 255
BLANK = 24.0  # maximum difference of the 0.5th and 99.5th percentiles in levels
PAPER, STROKES, UNEVEN = 100.0, 7.0, 4.0  # a page: minimum median, minimum mean of strokes, maximum deviation of paper
MASK = 80.0  # minimum levels by which red exceeds blue in the lightest tones of color negative film
MASK_GREEN, MASK_BLUE = 0.7, 0.5  # maximum green and blue relative to red, because the mask absorbs them
_PIXELS = 1 << 14
_STROKE = 9  # pixels of the reduced copy: wider than pen strokes, narrower than objects


def triage(grey: Image.Image, color: Image.Image | None, toned: Toning) -> Kind:
    """Classifies an image.

    Args:
        grey: a small copy with mode L.
        color: a small copy with its color channels; None if the file has only one channel.
        toned: `toning_of` of `color`.
    """
    levels = np.asarray(_reduced(grey))
    if _percentile(levels, 99.5) - _percentile(levels, 0.5) < BLANK:
        return "blank"
    if color is not None and toned.colorfulness > COLOR:
        return "negative" if _has_orange_mask(color) else "color"
    if _is_text(levels):
        return "text"
    if color is None:
        return "grey"
    return "toned" if toned.saturation > TONED else "grey_as_rgb"


def toning_of(color: Image.Image, pixels: int, rounding: ChromaRounding) -> Toning:
    """The toning of a small copy of an image with `pixels` pixels; see `tone`."""
    reduced = _reduced(color)
    area = reduced.width * reduced.height
    pixels_each = max(1, round(color.width * color.height / area))
    scaled = rounding._replace(block=rounding.block / math.sqrt(pixels / area))
    return toning(np.asarray(reduced.convert("RGB"), np.float32), pixels_each, scaled)


def _is_text(grey: Grey) -> bool:
    """Whether the image is even, light paper with enough strokes, which are removed by morphological closing."""
    page = close_strokes(grey)
    if _percentile(page, 50) <= PAPER or float((page - grey.astype(np.float32)).mean()) <= STROKES:
        return False
    closed, (height, width) = Image.fromarray(page), page.shape
    paper = closed.resize((8, 8), Image.Resampling.BOX).resize((width, height), Image.Resampling.BICUBIC)
    return float((page.astype(np.float32) - np.asarray(paper)).std()) < UNEVEN


def _percentile(levels: Grey, percent: float) -> float:
    """Like `np.percentile`, but from a histogram, which is several times as fast."""
    counts = np.cumsum(np.bincount(levels.ravel(), minlength=256))
    position = percent / 100 * (levels.size - 1)
    lower, upper = np.searchsorted(counts, (math.floor(position), math.ceil(position)), side="right")
    return float(lower + (upper - lower) * (position - math.floor(position)))


def close_strokes(grey: Grey) -> Grey:
    """Morphological closing with a square of `_STROKE` pixels: removes thinner dark strokes."""
    return np.asarray(cv2.morphologyEx(grey, cv2.MORPH_CLOSE, np.ones((_STROKE, _STROKE), np.uint8)), np.uint8)


def _has_orange_mask(color: Image.Image) -> bool:
    rgb = np.asarray(_reduced(color).convert("RGB"), np.float32).reshape(-1, 3)
    luma = rgb @ np.array(LUMA_WEIGHTS, np.float32)
    red, green, blue = rgb[luma >= np.percentile(luma, 95)].mean(axis=0)
    maxima = np.percentile(rgb, 99, axis=0)
    is_orange = maxima[1] < MASK_GREEN * maxima[0] and maxima[2] < MASK_BLUE * maxima[0]
    return bool(is_orange and red > green > blue and red - blue > MASK)


def _reduced(image: Image.Image) -> Image.Image:
    """The image reduced to about `_PIXELS`, before any conversion of its mode (L, RGB or YCbCr)."""
    return image.reduce(max(1, math.isqrt(image.width * image.height // _PIXELS)))
