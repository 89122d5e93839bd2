"""JPEG chroma from a lookup table: Cb and Cr for each of the 256 lumas and a grid of Lab colors, interpolated.

The formula (`colorize.imaging.compose`) takes about forty passes over the pixels, the table a few. They differ by 0.03
levels on average over all colors and by at most 3 (`tests/imaging/test_chroma_table.py`). The formula is used where the
table would be less accurate: beyond `MAX_AB`, and near zero red, where the gamma curve is steepest.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from colorize.imaging.colorimetry import CR_SCALE

Float = NDArray[np.float32]
Levels = NDArray[np.uint8]
Formula = Callable[[Float, Float], tuple[Float, Float]]  # luma in [0, 1], Lab color (2, ...) -> Cb, Cr in [0, 255]

MAX_AB = 80  # Lab units: maximum absolute value of a and b in the table
STEP = 2  # Lab units between the table's colors
_SIDE = 2 * MAX_AB // STEP + 1
_SCALE = 256  # table entries per level
_STEEP_RED, _STEEP_CR = (5, 40), 127  # use the formula for these levels of red, if Cr is below this
_MAX_WIDTH = 1 << 14  # pixels: OpenCV's limit is about twice this
_OFFSETS = np.arange(256, dtype=np.float32) * _SIDE
_RED_ABOVE_LUMA = ((np.arange(256) - 128) / CR_SCALE).astype(np.int16)  # by Cr


class ChromaTable:
    """A formula as tables, uint16 (256 * _SIDE, _SIDE): `_SCALE` times Cb and Cr, by luma and a (rows) and b."""

    def __init__(self, formula: Formula) -> None:
        """Takes 150 ms and 7 MB."""
        cv2.setNumThreads(1)  # for the whole process, because the stages parallelize by processes
        self.formula = formula
        axis = np.arange(-MAX_AB, MAX_AB + 1, STEP, dtype=np.float32)
        ab = np.stack(np.meshgrid(axis, axis, indexing="ij"))
        tables = np.empty((2, 256, _SIDE, _SIDE), np.uint16)
        for luma in range(256):
            chroma = formula(np.full((_SIDE, _SIDE), luma / 255, np.float32), ab)
            tables[:, luma] = np.rint(np.stack(chroma) * _SCALE)
        self.tables = tables.reshape(2, 256 * _SIDE, _SIDE)

    def __call__(self, luma: Levels, ab: Float) -> tuple[Levels, Levels]:
        """Cb and Cr (H, W) for ab (2, H, W), within `MAX_AB`, and `luma` (H, W)."""
        if luma.shape[1] > _MAX_WIDTH:
            halves = [self(luma[:, part], ab[..., part]) for part in (slice(_MAX_WIDTH), slice(_MAX_WIDTH, None))]
            cb, cr = (np.hstack(planes) for planes in zip(*halves, strict=True))
            return cb, cr
        map_y, map_x = ab * np.float32(1 / STEP) + np.float32(MAX_AB / STEP)
        map_y += cv2.LUT(luma, _OFFSETS)
        scaled = (cv2.remap(table, map_x, map_y, cv2.INTER_LINEAR) for table in self.tables)
        cb, cr = (np.asarray(cv2.convertScaleAbs(levels, alpha=1 / _SCALE), np.uint8) for levels in scaled)
        steep = _is_steep(luma, cr)
        if steep.any():
            cb[steep], cr[steep] = by_formula(self.formula, luma[steep], ab[:, steep])
        return cb, cr


@lru_cache(maxsize=1)
def chroma_table(formula: Formula) -> ChromaTable:
    """The formula's table, cached per process."""
    return ChromaTable(formula)


def by_formula(formula: Formula, luma: Levels, ab: Float) -> tuple[Levels, Levels]:
    """Rounded Cb and Cr for ab (2, ...) and `luma` (...), without the table."""
    cb, cr = formula(luma.astype(np.float32) / np.float32(255), ab)
    return np.rint(cb).astype(np.uint8), np.rint(cr).astype(np.uint8)


def _is_steep(luma: Levels, cr: Levels) -> NDArray[np.bool_]:
    is_steep: NDArray[np.bool_] = cr < _STEEP_CR
    if is_steep.any():
        red = cv2.LUT(cr, _RED_ABOVE_LUMA) + luma
        is_steep &= (red >= _STEEP_RED[0]) & (red < _STEEP_RED[1])
    return is_steep
