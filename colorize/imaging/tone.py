"""How much color a photograph has beyond its tone: 0 for grey, and little for prints in sepia or another tone.

A toned print has one color for each tone, whatever the curve between them, and an old one fades towards one side. So
the colors of about 24 x 24 cells are explained by how much of each tone is in them and where they lie, and what is left
is measured. Three things keep it to the photograph: the border is left out, where mounts, color targets and crop marks
are; what a few cells hold (a stamp, a note, spots) neither bends the fit, which weighs cells down that stand out, nor
counts, since the measure is a quantile over the cells: a quarter of them may be of any color. Stains are of one color
wherever they lie (foxing is brown), and color photographs are not: what differs from the tone the way that most of what
stands out does may be found in more of the cells.

What is left of a print is JPEG's rounding, grain, marks and spots, and differs from cell to cell; what is left of a
photograph in color belongs to things, so neighbors share it. It must be most of what is left that a median over 3 x 3
cells leaves, the more so the coarser the file's chroma is rounded.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from colorize.imaging.colorimetry import LUMA_WEIGHTS

Float = NDArray[np.float32]

BORDER = 0.15  # of each side
CELLS = 24
KNOTS = 5  # of the curve of each color over the tones: black, white and between
QUANTILE = 0.75
QUANTILE_ASIDE = 0.9  # of what does not differ the way that stains do
ROUNDS = 6  # of reweighting: after four the weights hardly change
FLOOR = 1.0  # levels within which a cell is as good as explained
RIDGE = 1e-3  # for tones that do not occur
PIXEL_NOISE = 94.0  # levels squared: of one pixel's colors, as a JPEG of middling quality has it
OWN_NOISE = 2.0  # times what cells vary within themselves
# Of `_shared`. Chosen on a third of the images that docs/performance.md (Triage) tells of.
QUANTILE_LEFT, QUANTILE_SHARED = 0.6, 0.7
LEAST = 0.3  # levels that are as good as none
COARSENESS = 0.3  # power of the rounding, in levels, by which shared colors are divided
SHARED = 2.3  # times what is shared: as much as `beyond` has to be


class Toning(NamedTuple):
    """What the colors of a photograph are like, in levels of 255."""

    beyond: float  # what the tone does not explain and neighbors share
    saturation: float  # of most of the image: max(R, G, B) - min(R, G, B)


class ChromaRounding(NamedTuple):
    """How a file rounds its chroma: means of blocks, of so many pixels each way, to multiples of a step in levels."""

    step: float
    block: float


def toning(rgb: Float, pixels_each: int, rounding: ChromaRounding) -> Toning:
    """Measures an image (H, W, 3), each of whose pixels is the mean of so many of the file's."""
    cells = _Cells.of(rgb)
    luma = cells.pixels @ np.array(LUMA_WEIGHTS, np.float32)
    spacing = np.float32(255 / (KNOTS - 1))
    knots = np.arange(KNOTS, dtype=np.float32) * spacing
    near = 1 - np.abs(luma[..., None] - knots) / spacing  # (h, w, KNOTS)
    curve: Float = np.maximum(near, 0).astype(np.float32)
    opponents = _opponents(cells.pixels)
    base = np.concatenate([cells.mean(curve), cells.places()], axis=1)
    colors = cells.mean(opponents)
    weights, rest, unexplained = np.ones(len(colors), np.float32), np.zeros(len(colors), np.float32), colors
    slopes = np.zeros((base.shape[1], 2), np.float32)
    for _ in range(ROUNDS):
        weighted = (base * weights[:, None]).T
        slopes = np.linalg.solve(weighted @ base + RIDGE * np.eye(base.shape[1], dtype=np.float32), weighted @ colors)
        unexplained = np.asarray(colors - base @ slopes, np.float32)
        rest = np.hypot(*unexplained.T)
        weights = 1 / np.maximum(rest, FLOOR)
    within = np.asarray(opponents - curve @ slopes[:KNOTS], np.float32)
    own = (cells.mean(np.square(within)) - np.square(cells.mean(within))).sum(axis=1)
    noise = OWN_NOISE * float(np.median(own)) / cells.side**2 + PIXEL_NOISE / (pixels_each * cells.side**2)
    all_of_it = float(np.quantile(rest, QUANTILE))
    way = unexplained[rest >= all_of_it].mean(axis=0, dtype=np.float32)
    aside = float(np.quantile(_aside(unexplained, way), QUANTILE_ASIDE))
    beyond = math.sqrt(max(0.0, min(all_of_it, aside) ** 2 - noise))
    coarse = rounding.step * max(1.0, rounding.block / cells.side)
    shared = _shared(unexplained.T.reshape(2, *cells.shape)) / max(1.0, coarse) ** COARSENESS
    means = cells.mean(cells.pixels)
    return Toning(min(beyond, SHARED * shared), float(np.median(means.max(axis=1) - means.min(axis=1))))


class _Cells(NamedTuple):
    """The middle of an image, cut into squares."""

    pixels: Float  # (rows * side, columns * side, 3)
    side: int

    @classmethod
    def of(cls, rgb: Float) -> _Cells:
        height, width = rgb.shape[:2]
        top, left = round(height * BORDER), round(width * BORDER)
        inner_height, inner_width = height - 2 * top, width - 2 * left
        side = max(1, min(round(math.sqrt(height * width) / CELLS), inner_height, inner_width))
        rows, columns = inner_height // side, inner_width // side
        return cls(rgb[top : top + rows * side, left : left + columns * side], side)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        height, width = self.pixels.shape[:2]
        return height // self.side, width // self.side

    def mean(self, planes: Float) -> Float:
        """The mean of planes (h, w, n) in each cell: (cells, n)."""
        height, width, count = planes.shape
        rows, columns = self.shape
        tall = self._averaging(rows) @ planes.reshape(height, width * count)  # several times as fast as sums
        means = self._averaging(columns) @ tall.reshape(rows, width, count)
        return np.asarray(means.reshape(rows * columns, count), np.float32)

    def _averaging(self, cells: int) -> Float:
        """The matrix that turns the pixels of a row or column of so many cells into the cells' means."""
        return np.repeat(np.eye(cells, dtype=np.float32) / np.float32(self.side), self.side, axis=1)

    def places(self) -> Float:
        """Where each cell lies: (cells, 2), each from -0.5 to 0.5."""
        rows, columns = self.shape
        down, across = np.mgrid[0:rows, 0:columns].reshape(2, -1)
        return np.stack([down / rows - 0.5, across / columns - 0.5], axis=1).astype(np.float32)


def _aside(colors: Float, way: Float) -> Float:
    """How far each of the colors (n, 2) is from the ray that goes this way."""
    along = colors @ (way / max(float(np.hypot(*way)), 1e-6))
    return np.asarray(
        np.sqrt(np.maximum(np.square(colors).sum(axis=1) - np.square(np.maximum(along, 0)), 0)), np.float32
    )


def _shared(left: Float) -> float:
    """How much of the colors (2, rows, columns) neighbors share, the less the more of them is left by themselves."""
    padded = np.pad(left, ((0, 0), (1, 1), (1, 1)), mode="symmetric")
    nine = sliding_window_view(padded, (3, 3), axis=(1, 2)).reshape(*left.shape, 9)
    medians = np.partition(nine, 4, axis=-1)[..., 4]
    shared, all_of_it = np.quantile(np.hypot(*medians), QUANTILE_SHARED), np.quantile(np.hypot(*left), QUANTILE_LEFT)
    return float(shared**2 / (all_of_it + LEAST))


def _opponents(rgb: Float) -> Float:
    """R - G and (R + G) / 2 - B (Hasler and Suesstrunk, 2003)."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    return np.stack([red - green, (red + green) / 2 - blue], axis=-1)
