"""Low-resolution color brought to full size along the luminance's edges, so that it does not bleed over them.

Within a few cells of the network's grid color is nearly a linear function of luminance (the model of He, Sun and
Tang, "Guided image filtering", 2010). Its slope is measured on the grid, where the color is, and adds to bicubic
color only what bicubic cannot hold: the luminance's detail below the grid.

    ab(pixel) = bicubic ab + slope * (luminance - bicubic luminance of the grid)

Unlike the guided filter this averages no color over windows, which is why it loses none (docs/upsampling.md has the
measurements). Three things keep it honest: the slope counts only as far as luminance explains the color (the square
of their correlation), the result stays within the colors of the neighboring cells, so that no color is invented, and
one step of back-projection makes the averages of the result those of the prediction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from colorize.imaging.formats.decoded_image import Pixels, Plane

Float = NDArray[np.float32]

# Chosen by the sweep in docs/upsampling.md.
LUMA_VARIANCE = 0.003  # of luma in [0, 1], in 3 x 3 cells: below it the slope fades
AB_VARIANCE = 1.0  # of Lab units: weaker color has no slope worth following
_WINDOW = np.ones((3, 3), np.uint8)
_KEPT_ROWS = 16  # of the grid at full width
_MIXED_ROWS = 16  # that share a matrix product: more of them lie between more rows of the grid
_FINER = 4  # back-projection happens on a grid so many times finer than the prediction's,
_FINEST = 1 << 20  # as far as that has no more pixels than this
_BILINEAR, _BICUBIC, _BOX = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.BOX


@dataclass(frozen=True, slots=True)
class GuidedColor:
    """Color on the network's grid, ready to be read at full size, strip by strip."""

    width: int  # of the full-size image
    smooth: Enlarger  # (3, h, w), bicubic: a, b and the luma in [0, 1]
    steady: Enlarger  # (6, h, w), bilinear: slopes of a and b with luma, their least and their largest values around

    @property
    def largest(self) -> float:
        """The largest a or b, either sign, that a pixel may have."""
        return float(np.abs(self.steady.planes[2:]).max())

    def rows(self, rows: slice, luma: Float) -> Float:
        """Color (2, rows, W) of a strip of the image whose luma in [0, 1] is `luma` (rows, W)."""
        smooth, steady = self.smooth.rows(rows, self.width), self.steady.rows(rows, self.width)
        color, slope, low, high = smooth[:2], steady[:2], steady[2:4], steady[4:]
        slope *= luma - smooth[2]
        color += slope
        np.maximum(color, low, out=color)
        return np.minimum(color, high, out=color)


class Enlarger:
    """Planes on a small grid, (n, h, w), read at full size strip by strip: pixel areas aligned, no seams.

    Rows and columns are mixed by small matrix products, which is several times faster than Pillow's two passes.
    """

    def __init__(self, planes: Float, height: int, how: Image.Resampling) -> None:
        self.planes, self.how = planes, how
        self.down = _weights(planes.shape[1], height, how)
        self.across = np.empty((0, 0), np.float32)  # (w, W), once a width is asked for
        self._kept = 0, np.empty((0, 0, 0), np.float32)  # the first of some rows of the grid, and these at full width

    def rows(self, rows: slice, width: int) -> Float:
        """(n, rows, width)"""
        weights, starts, stops = self.down
        first = starts[rows.start]
        wide = self._wide(first, stops[rows.stop - 1], width)
        enlarged = np.empty((len(self.planes), rows.stop - rows.start, width), np.float32)
        for top in range(rows.start, rows.stop, _MIXED_ROWS):
            end = min(top + _MIXED_ROWS, rows.stop)
            low, high = starts[top], stops[end - 1]
            mixed = enlarged[:, top - rows.start : end - rows.start]
            np.matmul(weights[top:end, low:high], wide[:, low - first : high - first], out=mixed)
        return enlarged

    def _wide(self, first: int, last: int, width: int) -> Float:
        """Rows of the grid at full width, (n, last - first, width), and some more kept for the strips that follow."""
        start, wide = self._kept
        if not (start <= first and last <= start + wide.shape[1] and width == wide.shape[2]):
            start, stop = first, max(last, first + _KEPT_ROWS)
            if self.across.shape[1] != width:
                self.across = _weights(self.planes.shape[2], width, self.how).each.T
            wide = self.planes[:, start:stop] @ self.across
            self._kept = start, wide
        return wide[:, first - start : last - start]


class _Weights(NamedTuple):
    """What the cells of a row or column of the grid add to its pixels.

    Attributes:
        each: (pixels, cells).
        starts: for each pixel the first cell that adds to it, or to a later one.
        stops: for each pixel the cell after the last one that adds to it, or to an earlier one.
    """

    each: Float
    starts: list[int]
    stops: list[int]


@lru_cache(maxsize=16)  # an image needs eight, and those of one size the same ones
def _weights(cells: int, pixels: int, how: Image.Resampling) -> _Weights:
    unit = Image.fromarray(np.eye(cells, dtype=np.float32))
    each = np.asarray(unit.resize((cells, pixels), how))
    used = each != 0
    starts, stops = used.argmax(axis=1), cells - used[:, ::-1].argmax(axis=1)
    return _Weights(each, np.minimum.accumulate(starts[::-1])[::-1].tolist(), np.maximum.accumulate(stops).tolist())


def guide(ab: Float, luma: Pixels) -> GuidedColor:
    """Prepares color (2, h, w) for an image with `luma` (H, W), uint8 or uint16, of the same layout."""
    height, width = luma.shape
    grid = min(ab.shape[1], height), min(ab.shape[2], width)
    ab = np.stack([_resized(plane, grid) for plane in ab])
    finer = _finer(grid, (height, width))
    fine = _reduced(luma, finer)
    grey = _resized(fine, grid)
    first = _fitted(ab, grey, finer).rows(slice(0, finer[0]), fine)
    missing = ab - np.stack([_resized(plane, grid) for plane in first])
    return _fitted(ab + missing, grey, (height, width))


def _fitted(ab: Float, grey: Float, shape: tuple[int, int]) -> GuidedColor:
    mean, mean_ab = _mean(grey), _around(_mean, ab)
    variance = np.maximum(_mean(grey * grey) - mean * mean, 0)
    variance_ab = np.maximum(_around(_mean, ab * ab) - mean_ab * mean_ab, 0)
    covariance = _around(_mean, ab * grey) - mean_ab * mean
    explained = covariance**2 / ((variance + np.float32(1e-8)) * (variance_ab + np.float32(AB_VARIANCE)))
    slope = covariance / (variance + np.float32(LUMA_VARIANCE)) * np.minimum(explained, 1)
    steady: Float = np.concatenate((slope, _around(_least, ab), _around(_largest, ab)))
    smooth = np.concatenate((ab, grey[None]))
    height, width = shape
    return GuidedColor(width, Enlarger(smooth, height, _BICUBIC), Enlarger(steady, height, _BILINEAR))


def _finer(grid: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int]:
    times = max(1, min(_FINER, int((_FINEST / (grid[0] * grid[1])) ** 0.5)))
    return min(grid[0] * times, shape[0]), min(grid[1] * times, shape[1])


def _around(merge: Callable[[Float], Float], planes: Float) -> Float:
    """`merge` of every 3 x 3 window, by OpenCV: (n, h, w) -> (n, h, w)."""
    return np.stack([merge(plane) for plane in planes])


def _mean(plane: Float) -> Float:
    return np.asarray(cv2.blur(plane, (3, 3), borderType=cv2.BORDER_REPLICATE), np.float32)


def _least(plane: Float) -> Float:
    return np.asarray(cv2.erode(plane, _WINDOW), np.float32)


def _largest(plane: Float) -> Float:
    return np.asarray(cv2.dilate(plane, _WINDOW), np.float32)


def _reduced(luma: Pixels, shape: tuple[int, int]) -> Float:
    """Luma in [0, 1] averaged over the cells of a grid."""
    cells = np.array(_image(luma).resize(shape[::-1], _BOX), np.float32)
    return cells / np.float32(np.iinfo(luma.dtype).max)


def _image(luma: Pixels) -> Image.Image:
    """Of 16 bits, which Pillow averages slowly, and of what is decoded by rows a few million pixels are looked at."""
    if isinstance(luma, np.ndarray) and luma.dtype == np.uint8:
        return Image.fromarray(luma)
    step = max(1, int((luma.shape[0] * luma.shape[1] / (4 * _FINEST)) ** 0.5))
    return Image.fromarray(_sampled(luma, step).astype(np.float32))


def _sampled(luma: Pixels, step: int) -> Plane:
    """Every so many rows and columns, read in bands."""
    height, width = luma.shape
    band = step * max(1, _FINEST // (step * width))
    bands = (luma[top : top + band] for top in range(0, height, band))
    return np.concatenate([rows[::step, ::step].copy() for rows in bands])  # a view would hold all of its band


def _resized(plane: Float, shape: tuple[int, int]) -> Float:
    if plane.shape == shape:
        return plane
    return np.array(Image.fromarray(np.ascontiguousarray(plane)).resize(shape[::-1], _BOX), np.float32)
