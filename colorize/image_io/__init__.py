"""Pictures from bytes and back: `decode_small` for the network, `decode` and `encode` for the full size.

What is read, limits and names are in `formats`; what is carried over besides pixels in `metadata`; how a colored
copy is written without touching its luminance in one file a format. Nothing here needs torch.
"""

from __future__ import annotations

from colorize.image_io.codec import decode, decode_small, encode
from colorize.image_io.formats import ADDED_SUFFIX, ImageDecodeError, ImageInfo, output_format, output_name, read_info
from colorize.image_io.metadata import Metadata, Provenance
from colorize.image_io.picture import Color, HalfChroma, Picture, SmallGrey

__all__ = [
    "ADDED_SUFFIX",
    "Color",
    "HalfChroma",
    "ImageDecodeError",
    "ImageInfo",
    "Metadata",
    "Picture",
    "Provenance",
    "SmallGrey",
    "decode",
    "decode_small",
    "encode",
    "output_format",
    "output_name",
    "read_info",
]
