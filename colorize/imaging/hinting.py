"""Color hints on the way through a network: planes that it takes in, and colors that it is held to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Spots = Float  # (n, 4): x and y as fractions of the upright image's sides, then a and b in Lab units

_REACH = 1  # pixels around a hint that the network sees it at, too: its training had patches of up to 9 x 9
_HELD = 2.0  # cells around a hint that get its color; further out its pull fades
_FADE = 2.0  # cells


class Hinted(NamedTuple):
    """A small grey image `(h, w)` with hints."""

    grey: NDArray[np.uint8]
    spots: Spots

    @property
    def shape(self) -> tuple[int, ...]:
        return self.grey.shape


Seen = NDArray[np.uint8] | Hinted  # what a colorizer takes


class HasHints(Protocol):
    """What holds a small grey image and its hints."""

    @property
    def grey(self) -> NDArray[np.uint8]: ...

    @property
    def spots(self) -> Spots: ...


def grey_of(image: Seen | HasHints) -> NDArray[np.uint8]:
    """The image without its hints."""
    return image if isinstance(image, np.ndarray) else image.grey


def spots_of(image: Seen | HasHints) -> Spots:
    """Its hints; there may be none."""
    return np.empty((0, 4), np.float32) if isinstance(image, np.ndarray) else image.spots


def hint_planes(
    spots: Sequence[Spots], shapes: Sequence[tuple[int, ...]], canvas: tuple[int, int]
) -> tuple[Float, Float]:
    """Hints as a network takes them: ab `(B, 2, H, W)`, and a mask `(B, 1, H, W)` that is 1 where they hold.

    Args:
        spots: of each image.
        shapes: height and width that each image takes up of the canvas, from its top left corner.
        canvas: height and width of the canvas.
    """
    ab, mask = np.zeros((len(spots), 2, *canvas), np.float32), np.zeros((len(spots), 1, *canvas), np.float32)
    for index, (own, (height, width)) in enumerate(zip(spots, shapes, strict=True)):
        for x, y, *color in own:
            left, top = int(x * width), int(y * height)
            rows = slice(max(0, top - _REACH), min(height, top + _REACH + 1))
            columns = slice(max(0, left - _REACH), min(width, left + _REACH + 1))
            ab[index, :, rows, columns] = np.reshape(color, (2, 1, 1))
            mask[index, :, rows, columns] = 1
    return ab, mask


def held_to(ab_2hw: Float, spots: Spots) -> Float:
    """`ab_2hw` of a whole image, corrected so that each hint's cell has its color.

    A network takes a hint for advice: it spreads the color over what belongs to it and may tone it down. What is
    missing at the hint is added around it, all of it nearby, less and less further out.
    """
    if not len(spots):
        return ab_2hw
    height, width = ab_2hw.shape[1:]
    x, y = spots[:, 0] * width, spots[:, 1] * height
    missing = spots[:, 2:] - ab_2hw[:, y.astype(int), x.astype(int)].T
    rows, columns = np.mgrid[:height, :width].astype(np.float32) + 0.5
    distance = np.hypot(columns - x[:, None, None], rows - y[:, None, None])
    pull = np.exp(-np.square(np.maximum(distance - _HELD, 0) / _FADE))
    pull[distance > distance.min(axis=0)] *= 1e-3  # between two hints the nearer one decides
    total = np.einsum("nhw,nc->chw", pull, missing) / np.maximum(pull.sum(axis=0), 1)
    return np.asarray(ab_2hw + total, np.float32)
