"""Measures the color of a photograph besides its tone: 0 for grey, and small for prints in sepia or another tone.

A toned print has one color per lightness, possibly with a gradient because of fading. So the colors of about 24 x 24
cells are fitted as a function of lightness and position, and the residuals are measured. Three things limit the measure
to the photograph itself. The border is ignored, because of mounts, color targets and crop marks. Outliers (a stamp, a
note, spots) have low weights in the fit, and the measure is a quantile, so a quarter of the cells may have any color.
Stains have one color (foxing is brown), unlike color photographs: residuals in the direction of the main outliers count
less.

The residuals of a print are JPEG rounding, grain, marks and spots, and differ between neighboring cells. Those of a
color photograph belong to objects, so neighbors share them: most of the residuals must remain after a 3 x 3 median
filter, depending on how coarsely the file's chroma is quantized.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from colorize.imaging.colorimetry import LUMA_WEIGHTS

Float = NDArray[np.float32]

BORDER = 0.15  # fraction of each side that is ignored
CELLS = 24
KNOTS = 5  # of the color as a piecewise linear function of lightness, from black to white
QUANTILE = 0.75
QUANTILE_OFF_AXIS = 0.9  # of the residuals perpendicular to the direction of the main outliers
ROUNDS = 6  # of iteratively reweighted least squares; after four the weights hardly change
FLOOR = 1.0  # levels: smaller residuals all have full weight
RIDGE = 1e-3  # regularization, for tones that do not occur
PIXEL_NOISE = 94.0  # squared levels: variance of a pixel's color in a JPEG of medium quality
CELL_NOISE = 2.0  # factor for the variance within cells
# Parameters of `_shared_color`, tuned on the development images of docs/performance.md (Triage).
QUANTILE_RESIDUAL, QUANTILE_SHARED = 0.6, 0.7
MIN_RESIDUAL = 0.3  # levels: regularization of the ratio
COARSENESS = 0.3  # exponent of the quantization step by which the shared color is divided
SHARED = 2.3  # maximum ratio of the residual color to the shared color


class Toning(NamedTuple):
    """The color of a photograph, in levels of 255."""

    colorfulness: float  # color that is not explained by tone and shared by neighboring cells
    saturation: float  # median over the cells of max(R, G, B) - min(R, G, B)


class ChromaRounding(NamedTuple):
    """A file's chroma quantization: step in levels, of the means of blocks with this side in pixels."""

    step: float
    block: float


def toning(rgb: Float, pixels_each: int, rounding: ChromaRounding) -> Toning:
    """Measures an image (H, W, 3), 0..255, each of whose pixels is the mean of `pixels_each` pixels of the file."""
    cells = _Cells.of(rgb)
    luma = cells.pixels @ np.array(LUMA_WEIGHTS, np.float32)
    spacing = np.float32(255 / (KNOTS - 1))
    knots = np.arange(KNOTS, dtype=np.float32) * spacing
    hat = 1 - np.abs(luma[..., None] - knots) / spacing  # (h, w, KNOTS)
    basis: Float = np.maximum(hat, 0).astype(np.float32)
    opponents = _opponents(cells.pixels)
    predictors = np.concatenate([cells.mean(basis), cells.positions()], axis=1)
    colors = cells.mean(opponents)
    weights, distances, residuals = np.ones(len(colors), np.float32), np.zeros(len(colors), np.float32), colors
    slopes = np.zeros((predictors.shape[1], 2), np.float32)
    for _ in range(ROUNDS):
        weighted = (predictors * weights[:, None]).T
        slopes = np.linalg.solve(
            weighted @ predictors + RIDGE * np.eye(predictors.shape[1], dtype=np.float32), weighted @ colors
        )
        residuals = np.asarray(colors - predictors @ slopes, np.float32)
        distances = np.hypot(*residuals.T)
        weights = 1 / np.maximum(distances, FLOOR)
    within = np.asarray(opponents - basis @ slopes[:KNOTS], np.float32)
    cell_variance = (cells.mean(np.square(within)) - np.square(cells.mean(within))).sum(axis=1)
    noise = CELL_NOISE * float(np.median(cell_variance)) / cells.side**2 + PIXEL_NOISE / (pixels_each * cells.side**2)
    total = float(np.quantile(distances, QUANTILE))
    direction = residuals[distances >= total].mean(axis=0, dtype=np.float32)
    off_axis = float(np.quantile(_off_axis(residuals, direction), QUANTILE_OFF_AXIS))
    colorfulness = math.sqrt(max(0.0, min(total, off_axis) ** 2 - noise))
    coarse = rounding.step * max(1.0, rounding.block / cells.side)
    shared = _shared_color(residuals.T.reshape(2, *cells.shape)) / max(1.0, coarse) ** COARSENESS
    means = cells.mean(cells.pixels)
    return Toning(min(colorfulness, SHARED * shared), float(np.median(means.max(axis=1) - means.min(axis=1))))


class _Cells(NamedTuple):
    """The center of an image, divided into squares."""

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
        """Number of rows and columns of cells."""
        height, width = self.pixels.shape[:2]
        return height // self.side, width // self.side

    def mean(self, planes: Float) -> Float:
        """The mean of planes (h, w, n) in each cell: (cells, n)."""
        height, width, count = planes.shape
        rows, columns = self.shape
        row_means = self._averaging(rows) @ planes.reshape(height, width * count)  # several times as fast as `mean`
        means = self._averaging(columns) @ row_means.reshape(rows, width, count)
        return np.asarray(means.reshape(rows * columns, count), np.float32)

    def _averaging(self, cells: int) -> Float:
        """The matrix that averages the pixels of a row or column of `cells` cells."""
        return np.repeat(np.eye(cells, dtype=np.float32) / np.float32(self.side), self.side, axis=1)

    def positions(self) -> Float:
        """The position of each cell: (cells, 2), from -0.5 to 0.5."""
        rows, columns = self.shape
        down, across = np.mgrid[0:rows, 0:columns].reshape(2, -1)
        return np.stack([down / rows - 0.5, across / columns - 0.5], axis=1).astype(np.float32)


def _off_axis(colors: Float, direction: Float) -> Float:
    """The distance of each color (n, 2) from the ray in this direction."""
    projections = colors @ (direction / max(float(np.hypot(*direction)), 1e-6))
    return np.asarray(
        np.sqrt(np.maximum(np.square(colors).sum(axis=1) - np.square(np.maximum(projections, 0)), 0)), np.float32
    )


def _shared_color(residuals: Float) -> float:
    """The color that neighbors share: a 3 x 3 median of the residuals (2, rows, columns), relative to all color."""
    padded = np.pad(residuals, ((0, 0), (1, 1), (1, 1)), mode="symmetric")
    windows = sliding_window_view(padded, (3, 3), axis=(1, 2)).reshape(*residuals.shape, 9)
    medians = np.partition(windows, 4, axis=-1)[..., 4]
    shared = np.quantile(np.hypot(*medians), QUANTILE_SHARED)
    total = np.quantile(np.hypot(*residuals), QUANTILE_RESIDUAL)
    return float(shared**2 / (total + MIN_RESIDUAL))


def _opponents(rgb: Float) -> Float:
    """R - G and (R + G) / 2 - B (Hasler and Suesstrunk, 2003)."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    return np.stack([red - green, (red + green) / 2 - blue], axis=-1)
