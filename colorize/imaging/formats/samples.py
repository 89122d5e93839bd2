"""Converts samples (H, W, channels) to luminance, alpha and small copies, as a whole or by rows."""

from __future__ import annotations

import numpy as np
from PIL import Image

from colorize.imaging.colorimetry import LUMA_WEIGHTS
from colorize.imaging.formats.decoded_image import Pixels, Plane, Rows
from colorize.imaging.formats.orientation import orient

BAND_PIXELS = 1 << 20


def luma_of(samples: Plane) -> Plane:
    """Luma (H, W): Pillow's formula for mode "L" with 8 bits, round(0.299 R + 0.587 G + 0.114 B) with 16 bits."""
    if samples.shape[2] < 3:
        grey: Plane = samples[..., 0]
        return grey
    if samples.dtype == np.uint8:
        return np.asarray(Image.fromarray(np.ascontiguousarray(samples[..., :3])).convert("L"))
    red, green, blue = LUMA_WEIGHTS
    luma = np.rint(red * samples[..., 0] + green * samples[..., 1] + blue * samples[..., 2])
    return np.asarray(luma, np.uint16)


def has_alpha(samples: Pixels) -> bool:
    """Whether the last channel is alpha."""
    return samples.shape[2] in (2, 4)


def luma_rows(samples: Rows) -> Rows:
    """`luma_of`, computed lazily."""
    return Rows(samples.shape[:2], samples.dtype, lambda rows: luma_of(samples[rows]))


def alpha_rows(samples: Rows) -> Rows:
    """The last channel, computed lazily."""
    return Rows(samples.shape[:2], samples.dtype, lambda rows: samples[rows][..., -1])


def joined(*planes: Pixels | None) -> Pixels:
    """Concatenates planes (H, W) or (H, W, channels) to (H, W, all channels); ignores None."""
    present = [plane for plane in planes if plane is not None]
    if len(present) == 1:
        return present[0]
    count = sum(1 if plane.ndim == 2 else plane.shape[2] for plane in present)
    shape = (*present[0].shape[:2], count)
    return Rows(shape, present[0].dtype, lambda rows: np.dstack([plane[rows] for plane in present]))


def reduced(samples: Rows, factor: int, orientation: int) -> Image.Image:
    """A small upright 8-bit copy, grey or RGB without alpha, in which each pixel is the mean of factor x factor pixels.

    16-bit samples are reduced to their upper byte, like in Pillow.
    """
    height, width = samples.shape[:2]
    step = factor * max(1, BAND_PIXELS // (width * factor))
    bands = (_eight_bits(samples[top : top + step]) for top in range(0, height, step))
    return upright(np.concatenate([np.asarray(Image.fromarray(band).reduce(factor)) for band in bands]), orientation)


def upright(pixels: Plane, orientation: int) -> Image.Image:
    """Stored 8-bit pixels, grey (H, W) or RGB (H, W, 3), as an upright image."""
    if pixels.ndim == 2:
        return Image.fromarray(np.ascontiguousarray(orient(pixels, orientation)))
    turned = np.moveaxis(orient(np.moveaxis(pixels, -1, 0), orientation), 0, -1)
    return Image.fromarray(np.ascontiguousarray(turned))


def _eight_bits(samples: Plane) -> Plane:
    kept = samples[..., :3] if samples.shape[2] > 2 else samples[..., 0]
    return np.ascontiguousarray(kept if kept.dtype == np.uint8 else (kept >> 8).astype(np.uint8))
