"""Decoding and encoding of images: `decode_small` for the network, `decode` and `encode` at full size.

`formats` has supported formats, limits and output names, `metadata` the metadata of copies, and one module per format
the writer that preserves the luminance. No torch.
"""

from __future__ import annotations

from colorize.imaging.formats.codec import (
    decode,
    decode_header,
    decode_small,
    decode_thumbnail,
    encode,
    encode_grey,
    encode_grey_into,
    encode_into,
    read_info,
    stored_pixels,
)
from colorize.imaging.formats.decoded_image import Chroma, Color, DecodedImage, Header, SmallGrey, Subsampling
from colorize.imaging.formats.encoded import Encoded, FileBytes, opened, pieces, sha256, whole
from colorize.imaging.formats.errors import ImageDecodeError
from colorize.imaging.formats.formats import (
    ADDED_SUFFIX,
    BYTE_LIMIT,
    IMAGE_SUFFIXES,
    ImageInfo,
    check_bytes,
    disk_name,
    output_format,
    output_name,
)
from colorize.imaging.formats.metadata import Metadata, Origin, Provenance, read_origin
from colorize.imaging.formats.pages import (
    decode_small_pages,
    encode_grey_pages_into,
    encode_pages_into,
    has_pages,
    page_origins,
)

__all__ = [
    "ADDED_SUFFIX",
    "BYTE_LIMIT",
    "IMAGE_SUFFIXES",
    "Chroma",
    "Color",
    "DecodedImage",
    "Encoded",
    "FileBytes",
    "Header",
    "ImageDecodeError",
    "ImageInfo",
    "Metadata",
    "Origin",
    "Provenance",
    "SmallGrey",
    "Subsampling",
    "check_bytes",
    "decode",
    "decode_header",
    "decode_small",
    "decode_small_pages",
    "decode_thumbnail",
    "disk_name",
    "encode",
    "encode_grey",
    "encode_grey_into",
    "encode_grey_pages_into",
    "encode_into",
    "encode_pages_into",
    "has_pages",
    "opened",
    "output_format",
    "output_name",
    "page_origins",
    "pieces",
    "read_info",
    "read_origin",
    "sha256",
    "stored_pixels",
    "whole",
]
