"""The last stage: PSNR of whole images, written as the bulk job writes them. No torch."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from colorize.imaging.formats.upright import RGB, upright_rgb
from colorize.predict.render import Provenance, render

_UNSAID = Provenance("", "", "", "")
_STRIP_ROWS = 256


def whole_psnr(data: bytes, ab_2hw: npt.NDArray[np.floating], max_pixels: int) -> float:
    """RGB PSNR in dB between a color image and its colored copy, both decoded from their files.

    Includes the losses of the format, such as chroma subsampling and compression in JPEG.

    Raises:
        ImageDecodeError: `data` cannot be colored.
    """
    true = np.asarray(upright_rgb(data, max_pixels))
    copy = render(data, ab_2hw, _UNSAID, max_pixels=max_pixels).data
    return _psnr8(np.asarray(upright_rgb(copy, max_pixels)), true)


def _psnr8(predicted: RGB, true: RGB) -> float:
    """`metrics.psnr` of 8-bit images, in strips to save memory."""
    total = 0.0
    for top in range(0, len(true), _STRIP_ROWS):
        rows = slice(top, top + _STRIP_ROWS)
        total += float(np.square(predicted[rows].astype(np.float32) - true[rows]).sum(dtype=np.float64))
    return -10 * math.log10(max(total / true.size / 255**2, 1e-10))
