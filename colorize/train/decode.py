"""From an encoded photograph to pixels of one of a few shapes, so that many of them make a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from colorize.imaging.formats import ImageDecodeError
from colorize.imaging.formats.upright import RGB, upright_rgb
from colorize.imaging.settings import SizeLimits
from colorize.train.settings import DataSettings

MULTIPLE = 16  # of pixels: what the sides of a shape are

Shape = tuple[int, int]  # height, width


@dataclass(frozen=True, slots=True)
class Row:
    """One picture on its way into a batch.

    Attributes:
        rgb: `(H, W, 3)`, of one of the training's shapes; None for what is no picture.
        rate: how often it is drawn in an epoch, on average.
    """

    rgb: RGB | None
    rate: float = 1.0


def shapes(settings: DataSettings) -> list[Shape]:
    """The shapes of `data.aspects`: the shorter side is `data.short_side`, both are multiples of 16.

    >>> shapes(DataSettings(short_side=128, aspects=[0.75, 1.0, 1.375]))
    [(160, 128), (128, 128), (128, 176)]
    """
    side = settings.short_side
    exact = [(side / min(aspect, 1), side * max(aspect, 1)) for aspect in settings.aspects]
    return [(_rounded(height), _rounded(width)) for height, width in exact]


def decode_picture(encoded: bytes, allowed: list[Shape]) -> RGB | None:
    """A picture, upright, in the shape whose aspect ratio is nearest; None for what is no picture.

    The aspect is kept: what is over is cut off evenly on both sides.
    """
    try:
        picture = upright_rgb(encoded, SizeLimits().max_pixels, 2 * min(min(shape) for shape in allowed))
    except ImageDecodeError:
        return None
    aspect = picture.width / picture.height
    shape = min(allowed, key=lambda s: abs(math.log(aspect * s[0] / s[1])))
    return cut(picture, shape)


def cut(picture: Image.Image, shape: Shape) -> RGB:
    """The largest part from the picture's middle that has the shape's aspect ratio, resampled to it."""
    height, width = shape
    scale = min(picture.width / width, picture.height / height)
    # Rounding can bring a margin just below 0, which Pillow refuses.
    left, top = max(0.0, (picture.width - width * scale) / 2), max(0.0, (picture.height - height * scale) / 2)
    box = (left, top, picture.width - left, picture.height - top)
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC, box=box))


def _rounded(side: float) -> int:
    return max(MULTIPLE, round(side) // MULTIPLE * MULTIPLE)


def picture_bytes(settings: DataSettings) -> int:
    """The most memory that a decoded picture takes."""
    return max(3 * height * width for height, width in shapes(settings))
