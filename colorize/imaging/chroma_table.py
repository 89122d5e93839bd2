"""Chroma of a JPEG by table: Cb and Cr of each of the 256 lumas and Lab colors on a grid, interpolated by OpenCV.

The formula (`colorize.imaging.compose`) takes some forty passes over the pixels, the table a few. It differs from the
formula by 0.03 levels in the mean of all colors and by 3 at most (`tests/imaging/test_chroma_table.py`). Where it would
differ by more the formula is used: where red nearly vanishes, as its gamma curve is steepest there, and beyond
`REACH`.
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

REACH = 80  # Lab units of a and b, either sign
STEP = 2  # Lab units between two colors of the table
_SIDE = 2 * REACH // STEP + 1
_FINE = 256  # parts of a level that the table resolves
_STEEP_RED, _STEEP_CR = (5, 40), 127  # where red nearly vanishes: its levels, and below which Cr
_WIDEST = 1 << 14  # pixels: OpenCV's limit is about twice that
_OFFSETS = np.arange(256, dtype=np.float32) * _SIDE
_RED_ABOVE_LUMA = ((np.arange(256) - 128) / CR_SCALE).astype(np.int16)  # by Cr


class ChromaTable:
    """A formula's tables, uint16 (256 * _SIDE, _SIDE): `_FINE` times Cb, and Cr, by luma and a downwards, b across."""

    def __init__(self, formula: Formula) -> None:
        """Takes 150 ms and 7 MB."""
        cv2.setNumThreads(1)  # of the whole process: the stages share the CPUs by processes
        self.formula = formula
        axis = np.arange(-REACH, REACH + 1, STEP, dtype=np.float32)
        ab = np.stack(np.meshgrid(axis, axis, indexing="ij"))
        tables = np.empty((2, 256, _SIDE, _SIDE), np.uint16)
        for luma in range(256):
            chroma = formula(np.full((_SIDE, _SIDE), luma / 255, np.float32), ab)
            tables[:, luma] = np.rint(np.stack(chroma) * _FINE)
        self.tables = tables.reshape(2, 256 * _SIDE, _SIDE)

    def __call__(self, luma: Levels, ab: Float) -> tuple[Levels, Levels]:
        """Cb and Cr (H, W) of Lab color (2, H, W), within `REACH`, at `luma` (H, W)."""
        if luma.shape[1] > _WIDEST:
            halves = [self(luma[:, part], ab[..., part]) for part in (slice(_WIDEST), slice(_WIDEST, None))]
            cb, cr = (np.hstack(planes) for planes in zip(*halves, strict=True))
            return cb, cr
        down, across = ab * np.float32(1 / STEP) + np.float32(REACH / STEP)
        down += cv2.LUT(luma, _OFFSETS)
        fine = (cv2.remap(table, across, down, cv2.INTER_LINEAR) for table in self.tables)
        cb, cr = (np.asarray(cv2.convertScaleAbs(levels, alpha=1 / _FINE), np.uint8) for levels in fine)
        steep = _is_steep(luma, cr)
        if steep.any():
            cb[steep], cr[steep] = by_formula(self.formula, luma[steep], ab[:, steep])
        return cb, cr


@lru_cache(maxsize=1)
def chroma_table(formula: Formula) -> ChromaTable:
    """The formula's table, made once a process."""
    return ChromaTable(formula)


def by_formula(formula: Formula, luma: Levels, ab: Float) -> tuple[Levels, Levels]:
    """Cb and Cr, rounded, of Lab color (2, ...) at `luma` (...)."""
    cb, cr = formula(luma.astype(np.float32) / np.float32(255), ab)
    return np.rint(cb).astype(np.uint8), np.rint(cr).astype(np.uint8)


def _is_steep(luma: Levels, cr: Levels) -> NDArray[np.bool_]:
    is_far: NDArray[np.bool_] = cr < _STEEP_CR
    if is_far.any():
        red = cv2.LUT(cr, _RED_ABOVE_LUMA) + luma
        is_far &= (red >= _STEEP_RED[0]) & (red < _STEEP_RED[1])
    return is_far
