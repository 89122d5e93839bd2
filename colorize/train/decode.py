"""Decodes images to one of a few shapes, so that they can be batched."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from colorize.imaging.formats import ImageDecodeError
from colorize.imaging.formats.upright import RGB, upright_rgb
from colorize.imaging.settings import SizeLimits
from colorize.train.settings import DataSettings

MULTIPLE = 16  # of the sides of a shape, in pixels

Shape = tuple[int, int]  # height, width


@dataclass(frozen=True, slots=True)
class Row:
    """A decoded training image.

    Attributes:
        rgb: `(H, W, 3)`, of one of the training's shapes; None if broken.
        rate: expected number of draws per epoch.
    """

    rgb: RGB | None
    rate: float = 1.0


def shapes(settings: DataSettings) -> list[Shape]:
    """The shapes for `data.aspects`, with shorter side `data.short_side`, as multiples of 16.

    >>> shapes(DataSettings(short_side=128, aspects=[0.75, 1.0, 1.375]))
    [(160, 128), (128, 128), (128, 176)]
    """
    side = settings.short_side
    exact = [(side / min(aspect, 1), side * max(aspect, 1)) for aspect in settings.aspects]
    return [(_rounded(height), _rounded(width)) for height, width in exact]


def decode_image(encoded: bytes, allowed: list[Shape]) -> RGB | None:
    """Decodes an image upright, cropped and resized to the nearest allowed shape. None if broken."""
    try:
        image = upright_rgb(encoded, SizeLimits().max_pixels, 2 * min(min(shape) for shape in allowed))
    except ImageDecodeError:
        return None
    aspect = image.width / image.height
    shape = min(allowed, key=lambda s: abs(math.log(aspect * s[0] / s[1])))
    return cut(image, shape)


def cut(image: Image.Image, shape: Shape) -> RGB:
    """The largest center crop with the shape's aspect ratio, resampled to it."""
    height, width = shape
    scale = min(image.width / width, image.height / height)
    # Rounding errors can make margins negative, which Pillow refuses.
    left, top = max(0.0, (image.width - width * scale) / 2), max(0.0, (image.height - height * scale) / 2)
    box = (left, top, image.width - left, image.height - top)
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box=box))


def _rounded(side: float) -> int:
    return max(MULTIPLE, round(side) // MULTIPLE * MULTIPLE)


def image_bytes(settings: DataSettings) -> int:
    """Maximum memory of a decoded image."""
    return max(3 * height * width for height, width in shapes(settings))
