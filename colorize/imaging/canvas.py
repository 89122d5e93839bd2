"""The shapes that a network sees: a few canvases of about one area, into which images are fitted, aspect kept.

No torch: the bulk job fits images where they are loaded, and only the predictor holds a network.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from colorize.imaging.hinting import Seen, Spots, grey_of, spots_of

Grey = NDArray[np.uint8]  # (h, w), upright, 0..255
Shape = tuple[int, int]  # height, width

CELL = 4  # pixels of the canvas that one output color covers at the coarsest; fitted sides are multiples
MIN_CELLS_PER_SIDE = 2  # in units of the model's stride, so that extreme strips still give the network context


class Fitted(NamedTuple):
    """A small grey image (h, w), fitted into a canvas, with its hints."""

    grey: Grey
    spots: Spots
    canvas: Shape

    @property
    def shape(self) -> tuple[int, ...]:
        return self.grey.shape


class Canvases(NamedTuple):
    """Those of one network: about `size` x `size` pixels, sides multiples of `stride`."""

    size: int
    stride: int

    def fitted(self, image: Seen | Fitted) -> Fitted:
        """The image in the canvas that it fills best; one that was fitted into one of these stays as it is."""
        if isinstance(image, Fitted) and image.canvas in canvases(*self):
            return image
        grey = grey_of(image)
        canvas = canvas_for(*grey.shape, *self)
        return Fitted(fit(grey, canvas), spots_of(image), canvas)


@lru_cache(maxsize=4096)
def canvas_for(height: int, width: int, size: int, stride: int) -> Shape:
    """The canvas (H, W), sides multiples of `stride`, area about size^2, that an image fills best."""

    def filled(canvas: Shape) -> float:
        scale = min(canvas[0] / height, canvas[1] / width)
        return scale * scale * height * width / (canvas[0] * canvas[1])

    return max(canvases(size, stride), key=filled)


@lru_cache(maxsize=64)
def canvases(size: int, stride: int) -> tuple[Shape, ...]:
    """All canvases for a size: from a strip of two strides' width to its transpose, areas within one stride."""
    area = (size / stride) ** 2
    tall = [
        (max(round(area / n), n), n) for n in range(min(MIN_CELLS_PER_SIDE, size // stride), round(math.sqrt(area)) + 1)
    ]
    return tuple(dict.fromkeys((h * stride, w * stride) for a, b in tall for h, w in ((a, b), (b, a))))


def fit(grey: Grey, canvas: Shape) -> Grey:
    """`grey` scaled to touch the canvas in one direction and stay within it in the other, its aspect kept.

    Sides are rounded to multiples of `CELL`, so that whole output cells cover the image.
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
    """Images of one canvas as a batch (B, 1, H, W), what they leave of it filled by repeating their edges."""
    batch = np.empty((len(images), 1, *images[0].canvas), np.uint8)
    for (plane,), image in zip(batch, images, strict=True):
        h, w = image.shape
        plane[:h, :w] = image.grey
        plane[:h, w:] = image.grey[:, -1:]
        plane[h:] = plane[h - 1]
    return batch
