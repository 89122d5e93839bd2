"""JPEG 2000 files: lossless grey or true-color pixels with 8 or 16 bits, and the source's boxes.

Box layout: ISO/IEC 15444-1, annex I. Bare codestreams stay bare codestreams.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import imagecodecs
import numpy as np

from colorize.imaging.formats import exif
from colorize.imaging.formats.budget import limited
from colorize.imaging.formats.decoded_image import Plane, channels
from colorize.imaging.formats.icc import for_components
from colorize.imaging.formats.metadata import MetadataUpdate

_CODESTREAM = b"\xff\x4f\xff\x51"  # markers SOC and SIZ
_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # XMP specification, part 3
_EXIF_UUID = b"JpgTiffExif->JP2"
_CLAIM_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")  # C2PA, which is only valid for the source's bytes
_LATIN = b"\x00\x01"
_SRGB, _GREY = 16, 17  # enumerated color spaces


class Box(NamedTuple):
    """One box of a JP2 file."""

    type: bytes
    data: bytes

    def encoded(self) -> bytes:
        return (len(self.data) + 8).to_bytes(4, "big") + self.type + self.data


def write_jp2(pixels: Plane, source: bytes, update: MetadataUpdate) -> bytes:
    """Encode (H, W) or (H, W, 2 to 4) uint8 or uint16 pixels losslessly, as JP2 or bare codestream like `source`."""
    codestream = bytes(imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat="j2k"))
    if update.sentence:
        codestream = _with_comment(codestream, update.sentence)
    if source.startswith(_CODESTREAM):
        return codestream
    source_boxes = list(limited(boxes(source)))
    out = [Box(b"jP  ", b"\r\n\x87\n"), Box(b"ftyp", b"jp2 \0\0\0\0jp2 "), _header(pixels, source_boxes)]
    xmp = [b for b in source_boxes if b.type == b"uuid" and b.data.startswith(_XMP_UUID)]
    kept = [b for b in source_boxes if b.type in (b"xml ", b"uuid", b"uinf") and b not in xmp and not _is_claim(b)]
    out += [_updated(b, pixels) for b in kept]
    packet = update.xmp(xmp[0].data[len(_XMP_UUID) :] if xmp else None)
    xmp_boxes = [Box(b"uuid", _XMP_UUID + packet)] if packet else []
    return b"".join(b.encoded() for b in [*out, *xmp_boxes, Box(b"jp2c", codestream)])


def read_xmp(data: bytes) -> bytes | None:
    """The XMP packet of a JP2 file."""
    found = (b.data[len(_XMP_UUID) :] for b in boxes(data) if b.type == b"uuid" and b.data.startswith(_XMP_UUID))
    return next(found, None)


def boxes(data: bytes) -> Iterator[Box]:
    """The boxes of a JP2 file or superbox, up to one with an invalid length."""
    position = 0
    while position + 8 <= len(data):
        length, start = int.from_bytes(data[position : position + 4], "big"), position + 8
        if length == 1:  # a 64-bit length follows the type
            length, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        end = position + length if length else len(data)
        if not start <= end <= len(data):
            return
        yield Box(data[position + 4 : position + 8], data[start:end])
        position = end


def _is_claim(box: Box) -> bool:
    return box.type == b"uuid" and box.data.startswith(_CLAIM_UUID)


def _updated(box: Box, pixels: Plane) -> Box:
    """An EXIF box without its thumbnail; other boxes unchanged."""
    if not box.data.startswith(_EXIF_UUID):
        return box
    size, components = (pixels.shape[1], pixels.shape[0]), 3 if channels(pixels) > 2 else 1
    return Box(box.type, _EXIF_UUID + exif.updated(box.data[len(_EXIF_UUID) :], size, components))


def _header(pixels: Plane, source_boxes: list[Box]) -> Box:
    """The `jp2h` box, with the copy's size and color space and the source's resolution."""
    count = channels(pixels)
    depth = bytes((0, count, pixels.itemsize * 8 - 1, 7, 0, 0))
    inner = list(limited(b for box in source_boxes if box.type == b"jp2h" for b in boxes(box.data)))
    profiles = (for_components(b.data[3:], count) for b in inner if b.type == b"colr" and b.data[:1] == b"\2")
    profile = next((p for p in profiles if p), None)
    space = (_SRGB if count > 2 else _GREY).to_bytes(4, "big")
    color = Box(b"colr", b"\2\0\0" + profile if profile else b"\1\0\0" + space)
    children = [Box(b"ihdr", np.array(pixels.shape[:2], ">u4").tobytes() + depth), color]
    if count in (2, 4):
        children.append(_channel_definition(count))
    children += [b for b in inner if b.type == b"res "]
    return Box(b"jp2h", b"".join(b.encoded() for b in children))


def _channel_definition(count: int) -> Box:
    """The `cdef` box: color channels in order, then alpha."""
    rows = [(i, 0, i + 1) for i in range(count - 1)] + [(count - 1, 1, 0)]
    return Box(b"cdef", np.array([count, *(value for row in rows for value in row)], ">u2").tobytes())


def _with_comment(codestream: bytes, sentence: str) -> bytes:
    """Insert a COM segment after SIZ, the only segment with a fixed position (ISO/IEC 15444-1, annex A)."""
    siz_end = 4 + int.from_bytes(codestream[4:6], "big")
    data = _LATIN + sentence.encode("latin-1", "replace")
    return codestream[:siz_end] + b"\xff\x64" + (len(data) + 2).to_bytes(2, "big") + data + codestream[siz_end:]
