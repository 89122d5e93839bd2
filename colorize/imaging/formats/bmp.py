"""BMP files: true-color pixels of 8 bits, with alpha if the source has it."""

from __future__ import annotations

import struct
from typing import IO

import numpy as np
from PIL import Image

from colorize.imaging.formats.decoded_image import Plane, channels
from colorize.imaging.formats.metadata import Metadata

_FILE_HEADER, _V4_HEADER = 14, 108
_BITFIELDS = 3
_MASKS = (0x00FF0000, 0x0000FF00, 0x000000FF, 0xFF000000)  # red, green, blue, alpha in a little-endian pixel
_SRGB = b"BGRs"  # LCS_sRGB


def write_bmp(out: IO[bytes], pixels: Plane, metadata: Metadata) -> None:
    """Encode (H, W), (H, W, 3), or (H, W, 2 or 4) uint8 pixels, with alpha as the last of 2 or 4 channels, as BMP."""
    if channels(pixels) in (2, 4):
        _write_with_alpha(out, pixels, metadata)
        return
    options = {"dpi": metadata.dpi} if metadata.dpi else {}
    Image.fromarray(pixels).save(out, "BMP", **options)


def _write_with_alpha(out: IO[bytes], pixels: Plane, metadata: Metadata) -> None:
    """32 bits per pixel after a BITMAPV4HEADER, the first header with alpha, which Pillow does not write."""
    height, width = pixels.shape[:2]
    color, alpha = pixels[..., :-1], pixels[..., -1:]
    blue_first = np.broadcast_to(color[..., ::-1], (height, width, 3))  # grey has one channel
    stored = np.concatenate((blue_first, alpha), axis=-1)[::-1].tobytes()
    per_meter = [round(d / 0.0254) for d in metadata.dpi or (0, 0)]
    start = _FILE_HEADER + _V4_HEADER
    out.write(struct.pack("<2sIHHI", b"BM", start + len(stored), 0, 0, start))
    out.write(struct.pack("<IiiHHII", _V4_HEADER, width, height, 1, 32, _BITFIELDS, len(stored)))
    out.write(struct.pack("<iiII4I4s", *per_meter, 0, 0, *_MASKS, _SRGB) + bytes(48))  # end points and gamma: unused
    out.write(stored)
