"""Color PPM with more than 8 bits per sample, which Pillow reads with 8."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile

from colorize.imaging.formats.errors import ImageDecodeError


def largest_sample(image: ImageFile.ImageFile) -> int:
    """The maxval of a PPM whose pixels have not been loaded yet."""
    tile = image.tile[0]
    return int(tile.args[1]) if tile.codec_name.startswith("ppm") and isinstance(tile.args, tuple) else 255


def read_ppm16(image: ImageFile.ImageFile, data: bytes) -> NDArray[np.uint16]:
    """The samples (H, W, 3) of a PPM with two bytes per sample, scaled so that its maxval is 65535.

    Raises:
        ImageDecodeError: `truncated`, or `unsupported` for plain-text PPM.
    """
    tile, shape = image.tile[0], (image.height, image.width, 3)
    if tile.codec_name == "ppm_plain":
        raise ImageDecodeError("unsupported", "PPM in plain text with samples above 255: convert it to PNG first")
    if len(data) < tile.offset + 2 * np.prod(shape):
        raise ImageDecodeError(
            "truncated", f"PPM file of {len(data)} bytes: too short for {shape[1]} x {shape[0]} pixels"
        )
    samples = np.frombuffer(data, ">u2", int(np.prod(shape)), tile.offset).astype(np.uint32).reshape(shape)
    white = largest_sample(image)
    return np.minimum((samples * 65535 + white // 2) // white, 65535).astype(np.uint16)
