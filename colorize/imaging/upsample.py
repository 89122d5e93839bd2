"""Upsamples low-resolution color along the luminance's edges, so that color does not bleed across them.

Within a few cells of the network's grid, color is approximately a linear function of luminance (the model of He, Sun
and Tang, "Guided image filtering", 2010). Its slope is estimated on the grid, and only used for the luminance's detail
below the grid's resolution:

    ab(pixel) = bicubic ab + slope * (luminance - bicubic luminance of the grid)

Unlike the guided filter, this does not average color over windows (docs/upsampling.md has measurements). Three
measures avoid artifacts: the slope is weighted by how much luminance explains the color (their squared correlation),
the result is limited to the range of the neighboring cells, and one step of back-projection makes the averages of the
result equal to the prediction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from colorize.imaging.formats.decoded_image import Pixels, Plane

Float = NDArray[np.float32]

# Chosen by the sweep in docs/upsampling.md.
LUMA_VARIANCE = 0.003  # of luma in [0, 1] in 3 x 3 cells: regularization of the slope
AB_VARIANCE = 1.0  # squared Lab units: regularization of the correlation
_WINDOW = np.ones((3, 3), np.uint8)
_CACHED_ROWS = 16  # rows of the grid cached at full width
_BLOCK_ROWS, _BLOCK_COLUMNS = 16, 96  # per matrix product; more of them would need more cells of the grid
_BACK_PROJECTION_FACTOR = 4  # back-projection uses a grid that is finer than the prediction's by this factor,
_BACK_PROJECTION_PIXELS = 1 << 20  # with at most this number of pixels
_BILINEAR, _BICUBIC, _BOX = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.BOX


@dataclass(frozen=True, slots=True)
class GuidedColor:
    """Color on the network's grid, to be read at full size strip by strip."""

    width: int  # of the full-size image
    bicubic: Resampler  # (3, h, w): a, b and the luma in [0, 1]
    bilinear: Resampler  # (6, h, w): slopes of a and b with luma, and their minima and maxima in 3 x 3 cells

    @property
    def max_abs(self) -> float:
        """The maximum absolute value of a and b."""
        return float(np.abs(self.bilinear.planes[2:]).max())

    def rows(self, rows: slice, luma: Float) -> Float:
        """The ab (2, rows, W) of a strip of the image, for its luma (rows, W) in [0, 1]."""
        bicubic, bilinear = self.bicubic.rows(rows, self.width), self.bilinear.rows(rows, self.width)
        color, slope, low, high = bicubic[:2], bilinear[:2], bilinear[2:4], bilinear[4:]
        slope *= luma - bicubic[2]
        color += slope
        np.maximum(color, low, out=color)
        return np.minimum(color, high, out=color)


class Resampler:
    """Resamples planes of a grid, (n, h, w), strip by strip without seams; pixel areas are aligned.

    Uses small matrix products, which are several times faster than Pillow's two passes.
    """

    def __init__(self, planes: Float, height: int, resampling: Image.Resampling) -> None:
        self.planes, self.resampling = planes, resampling
        self.vertical = _weights(planes.shape[1], height, resampling)
        self._cached = 0, np.empty((0, 0, 0), np.float32)  # index of the first cached row, and the rows at full width

    def rows(self, rows: slice, width: int) -> Float:
        """A strip of the resampled planes, (n, rows, width)."""
        weights, starts, stops = self.vertical
        first = starts[rows.start]
        wide = self._full_width_rows(first, stops[rows.stop - 1], width)
        resampled = np.empty((len(self.planes), rows.stop - rows.start, width), np.float32)
        for top in range(rows.start, rows.stop, _BLOCK_ROWS):
            end = min(top + _BLOCK_ROWS, rows.stop)
            low, high = starts[top], stops[end - 1]
            block = resampled[:, top - rows.start : end - rows.start]
            np.matmul(weights[top:end, low:high], wide[:, low - first : high - first], out=block)
        return resampled

    def _full_width_rows(self, first: int, last: int, width: int) -> Float:
        """Rows of the grid at full width, (n, last - first, width); caches some more for the following strips."""
        start, wide = self._cached
        if not (start <= first and last <= start + wide.shape[1] and width == wide.shape[2]):
            start, stop = first, max(last, first + _CACHED_ROWS)
            wide = self._resized_to_width(self.planes[:, start:stop], width)
            self._cached = start, wide
        return wide[:, first - start : last - start]

    def _resized_to_width(self, planes: Float, width: int) -> Float:
        """Planes (n, h, w) as (n, h, width)."""
        weights, starts, stops = _weights(planes.shape[2], width, self.resampling)
        narrow = planes.reshape(-1, planes.shape[2])  # one product for all planes
        wide = np.empty((len(narrow), width), np.float32)
        for left in range(0, width, _BLOCK_COLUMNS):
            right = min(left + _BLOCK_COLUMNS, width)
            low, high = starts[left], stops[right - 1]
            np.matmul(narrow[:, low:high], weights[left:right, low:high].T, out=wide[:, left:right])
        return wide.reshape(*planes.shape[:2], width)


class _Weights(NamedTuple):
    """The weights of the grid's cells in one dimension.

    Attributes:
        matrix: (pixels, cells).
        starts: for each pixel, the first cell with a weight for it or a later pixel.
        stops: for each pixel, the cell after the last one with a weight for it or an earlier pixel.
    """

    matrix: Float
    starts: list[int]
    stops: list[int]


@lru_cache(maxsize=16)  # an image needs at most ten; images of one size share them
def _weights(cells: int, pixels: int, resampling: Image.Resampling) -> _Weights:
    identity = Image.fromarray(np.eye(cells, dtype=np.float32))
    matrix = np.asarray(identity.resize((cells, pixels), resampling))
    used = matrix != 0
    starts, stops = used.argmax(axis=1), cells - used[:, ::-1].argmax(axis=1)
    return _Weights(matrix, np.minimum.accumulate(starts[::-1])[::-1].tolist(), np.maximum.accumulate(stops).tolist())


def guided_color(ab: Float, luma: Pixels) -> GuidedColor:
    """Prepares ab (2, h, w) for an image with `luma` (H, W), uint8 or uint16, in the same layout."""
    height, width = luma.shape
    grid = min(ab.shape[1], height), min(ab.shape[2], width)
    ab = _averaged(ab, grid)
    shape = _back_projection_shape(grid, (height, width))
    fine = _reduced(luma, shape)
    grey = _averaged(fine[None], grid)
    initial = _fit(ab, grey, shape).rows(slice(0, shape[0]), fine)
    return _fit(ab + (ab - _averaged(initial, grid)), grey, (height, width))


def _fit(ab: Float, grey: Float, shape: tuple[int, int]) -> GuidedColor:
    planes = np.concatenate((ab, grey))  # (3, h, w)
    means = _filtered(_mean, np.concatenate((planes, planes * planes, ab * grey)))
    mean, mean_of_square, mean_of_product = means[:3], means[3:6], means[6:]
    variance = np.maximum(mean_of_square - mean * mean, 0)
    covariance = mean_of_product - mean[:2] * mean[2]
    r_squared = covariance**2 / ((variance[2] + np.float32(1e-8)) * (variance[:2] + np.float32(AB_VARIANCE)))
    slope = covariance / (variance[2] + np.float32(LUMA_VARIANCE)) * np.minimum(r_squared, 1)
    bilinear: Float = np.concatenate((slope, _filtered(_minimum, ab), _filtered(_maximum, ab)))
    height, width = shape
    return GuidedColor(width, Resampler(planes, height, _BICUBIC), Resampler(bilinear, height, _BILINEAR))


def _back_projection_shape(grid: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int]:
    factor = max(1, min(_BACK_PROJECTION_FACTOR, int((_BACK_PROJECTION_PIXELS / (grid[0] * grid[1])) ** 0.5)))
    return min(grid[0] * factor, shape[0]), min(grid[1] * factor, shape[1])


def _filtered(apply: Callable[[Float], Any], planes: Float) -> Float:
    """Applies a filter of 3 x 3 windows to all planes (n, h, w) in one call: in tiny images the calls are the cost."""
    channels_last = np.ascontiguousarray(planes.transpose(1, 2, 0))
    return np.ascontiguousarray(apply(channels_last).transpose(2, 0, 1))


def _mean(pixels: Float) -> Any:
    return cv2.blur(pixels, (3, 3), borderType=cv2.BORDER_REPLICATE)


def _minimum(pixels: Float) -> Any:
    return cv2.erode(pixels, _WINDOW)


def _maximum(pixels: Float) -> Any:
    return cv2.dilate(pixels, _WINDOW)


def _reduced(luma: Pixels, shape: tuple[int, int]) -> Float:
    """Luma in [0, 1], averaged over the cells of a grid."""
    cells = np.array(_image(luma).resize(shape[::-1], _BOX), np.float32)
    return cells / np.float32(np.iinfo(luma.dtype).max)


def _image(luma: Pixels) -> Image.Image:
    """The luma as a Pillow image; subsampled if it has 16 bits, which Pillow averages slowly, or is read by rows."""
    if isinstance(luma, np.ndarray) and luma.dtype == np.uint8:
        return Image.fromarray(luma)
    step = max(1, int((luma.shape[0] * luma.shape[1] / (4 * _BACK_PROJECTION_PIXELS)) ** 0.5))
    return Image.fromarray(_subsampled(luma, step).astype(np.float32))


def _subsampled(luma: Pixels, step: int) -> Plane:
    """Every `step`-th row and column, read in bands."""
    height, width = luma.shape
    band = step * max(1, _BACK_PROJECTION_PIXELS // (step * width))
    bands = (luma[top : top + band] for top in range(0, height, band))
    return np.concatenate([rows[::step, ::step].copy() for rows in bands])  # a view would keep its whole band in memory


def _averaged(planes: Float, shape: tuple[int, int]) -> Float:
    """Planes (n, h, w), averaged over the cells of a grid."""
    if planes.shape[1:] == shape:
        return planes
    return Resampler(planes, shape[0], _BOX).rows(slice(0, shape[0]), shape[1])
