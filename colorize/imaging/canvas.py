"""Canvases: a few input shapes of about equal area, into which images are fitted with their aspect ratio.

No torch, because the bulk job fits images in the load stage.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from colorize.imaging.hinting import GreyInput, Spots, grey_of, spots_of

Grey = NDArray[np.uint8]  # (h, w), upright, 0..255
Shape = tuple[int, int]  # height, width

CELL = 4  # pixels per output cell at the coarsest output resolution; fitted sides are multiples of it
MIN_CELLS_PER_SIDE = 2  # minimum side in strides, so that the network has some context in extreme aspect ratios


class Fitted(NamedTuple):
    """A small grey image (h, w) that is fitted into a canvas, with its hints."""

    grey: Grey
    spots: Spots
    canvas: Shape

    @property
    def shape(self) -> tuple[int, ...]:
        return self.grey.shape


class Canvases(NamedTuple):
    """The canvases of a network: about `size` x `size` pixels, with sides that are multiples of `stride`."""

    size: int
    stride: int

    def fitted(self, image: GreyInput | Fitted) -> Fitted:
        """Fits an image into the canvas that it fills best; an image already fitted into one of these is unchanged."""
        if isinstance(image, Fitted) and image.canvas in canvases(*self):
            return image
        grey = grey_of(image)
        canvas = canvas_for(*grey.shape, *self)
        return Fitted(fit(grey, canvas), spots_of(image), canvas)


@lru_cache(maxsize=4096)
def canvas_for(height: int, width: int, size: int, stride: int) -> Shape:
    """The canvas (H, W) that an image fills best."""

    def filled(canvas: Shape) -> float:
        scale = min(canvas[0] / height, canvas[1] / width)
        return scale * scale * height * width / (canvas[0] * canvas[1])

    return max(canvases(size, stride), key=filled)


@lru_cache(maxsize=64)
def canvases(size: int, stride: int) -> tuple[Shape, ...]:
    """All canvases (H, W) with areas of about size^2, from a strip two strides wide to its transpose."""
    area = (size / stride) ** 2
    tall = [
        (max(round(area / n), n), n) for n in range(min(MIN_CELLS_PER_SIDE, size // stride), round(math.sqrt(area)) + 1)
    ]
    return tuple(dict.fromkeys((h * stride, w * stride) for a, b in tall for h, w in ((a, b), (b, a))))


def fit(grey: Grey, canvas: Shape) -> Grey:
    """Scales `grey` to the largest size that fits into the canvas, with its aspect ratio.

    Sides are rounded to multiples of `CELL`, so that the image has whole output cells.
    """
    height, width = grey.shape
    scale = min(canvas[0] / height, canvas[1] / width)
    h, w = (
        min(full, max(CELL, CELL * round(side * scale / CELL)))
        for side, full in zip((height, width), canvas, strict=True)
    )
    if (h, w) == (height, width):
        return grey
    return np.asarray(Image.fromarray(grey).resize((w, h), Image.Resampling.BICUBIC))


def stacked(images: list[Fitted]) -> NDArray[np.uint8]:
    """Images of one canvas as a batch (B, 1, H, W), padded by replicating their edges."""
    batch = np.empty((len(images), 1, *images[0].canvas), np.uint8)
    for (plane,), image in zip(batch, images, strict=True):
        h, w = image.shape
        plane[:h, :w] = image.grey
        plane[:h, w:] = image.grey[:, -1:]
        plane[h:] = plane[h - 1]
    return batch
