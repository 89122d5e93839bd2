"""Color hints: the input planes for a network, and the correction of its output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Spots = Float  # (n, 4): x and y as fractions of the upright image's sides, then a and b in Lab units

_REACH = 1  # pixels around a hint in the input planes; siggraph17 was trained with patches of up to 9 x 9
_RADIUS = 2.0  # cells around a hint that are fully corrected
_FADE = 2.0  # cells: scale of the fading beyond


class Hinted(NamedTuple):
    """A small grey image `(h, w)` with hints."""

    grey: NDArray[np.uint8]
    spots: Spots

    @property
    def shape(self) -> tuple[int, ...]:
        return self.grey.shape


GreyInput = NDArray[np.uint8] | Hinted  # input of a colorizer


class HasHints(Protocol):
    """A small grey image with hints."""

    @property
    def grey(self) -> NDArray[np.uint8]: ...

    @property
    def spots(self) -> Spots: ...


def grey_of(image: GreyInput | HasHints) -> NDArray[np.uint8]:
    """The image without its hints."""
    return image if isinstance(image, np.ndarray) else image.grey


def spots_of(image: GreyInput | HasHints) -> Spots:
    """The image's hints, which may be empty."""
    return np.empty((0, 4), np.float32) if isinstance(image, np.ndarray) else image.spots


def hint_planes(
    spots: Sequence[Spots], shapes: Sequence[tuple[int, ...]], canvas: tuple[int, int]
) -> tuple[Float, Float]:
    """Hints as a network's input: ab `(B, 2, H, W)`, and a mask `(B, 1, H, W)` that is 1 at hints.

    Args:
        spots: hints of each image.
        shapes: height and width of each image, in the top left corner of the canvas.
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


def apply_hints(ab_2hw: Float, spots: Spots) -> Float:
    """Corrects the ab of a whole image so that each hint's cell has its color.

    The network spreads a hint over its object, but may weaken it. The difference at the hint is added fully to the
    cells nearby, and fades further out.
    """
    if not len(spots):
        return ab_2hw
    height, width = ab_2hw.shape[1:]
    x, y = spots[:, 0] * width, spots[:, 1] * height
    missing = spots[:, 2:] - ab_2hw[:, y.astype(int), x.astype(int)].T
    rows, columns = np.mgrid[:height, :width].astype(np.float32) + 0.5
    distance = np.hypot(columns - x[:, None, None], rows - y[:, None, None])
    weight = np.exp(-np.square(np.maximum(distance - _RADIUS, 0) / _FADE))
    weight[distance > distance.min(axis=0)] *= 1e-3  # each cell follows its nearest hint
    total = np.einsum("nhw,nc->chw", weight, missing) / np.maximum(weight.sum(axis=0), 1)
    return np.asarray(ab_2hw + total, np.float32)
