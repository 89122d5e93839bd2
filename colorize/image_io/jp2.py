"""JPEG 2000 files: lossless true-color pixels at 8 or 16 bits, with the source's own boxes carried over.

Box layout: ISO/IEC 15444-1, annex I. Bare codestreams stay bare.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import imagecodecs
import numpy as np

from colorize.image_io.metadata import Provenance, is_rgb_profile
from colorize.image_io.picture import Plane

_CODESTREAM = b"\xff\x4f\xff\x51"  # markers SOC and SIZ
_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # XMP specification, part 3
_LATIN = b"\x00\x01"
# Channels 0 to 2 are red, green, blue; channel 3 is the opacity of the whole picture.
_ALPHA_LAST = np.array([4, 0, 0, 1, 1, 0, 2, 2, 0, 3, 3, 1, 0], ">u2").tobytes()


class Box(NamedTuple):
    """One box of a JP2 file."""

    type: bytes
    data: bytes

    def encoded(self) -> bytes:
        return (len(self.data) + 8).to_bytes(4, "big") + self.type + self.data


def write_jp2(pixels: Plane, source: bytes, provenance: Provenance | None) -> bytes:
    """Encode (H, W, 3 or 4) uint8 or uint16 pixels, reversibly, as JP2 or as a bare codestream like `source`."""
    codestream = bytes(imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat="j2k"))
    if provenance:
        codestream = _with_comment(codestream, provenance.sentence)
    if source.startswith(_CODESTREAM):
        return codestream
    own = list(boxes(source))
    out = [Box(b"jP  ", b"\r\n\x87\n"), Box(b"ftyp", b"jp2 \0\0\0\0jp2 "), _header(pixels, own)]
    xmp = [b for b in own if b.type == b"uuid" and b.data.startswith(_XMP_UUID)]
    out += [b for b in own if b.type in (b"xml ", b"uuid", b"uinf") and b not in xmp]
    if provenance:
        packet = provenance.xmp(xmp[0].data[len(_XMP_UUID) :] if xmp else None)
        xmp = [Box(b"uuid", _XMP_UUID + packet)]
    return b"".join(b.encoded() for b in [*out, *xmp, Box(b"jp2c", codestream)])


def boxes(data: bytes) -> Iterator[Box]:
    """The boxes of a JP2 file, or within one; those whose length is damaged are left out."""
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


def _header(pixels: Plane, own: list[Box]) -> Box:
    """The `jp2h` box: sizes and color of the copy, resolution of the source."""
    height, width, channels = pixels.shape
    sizes = np.array([height, width], ">u4").tobytes() + bytes((0, channels, pixels.itemsize * 8 - 1, 7, 0, 0))
    inner = [b for box in own if box.type == b"jp2h" for b in boxes(box.data)]
    profile = next((b for b in inner if b.type == b"colr" and b.data[:1] == b"\2" and is_rgb_profile(b.data[3:])), None)
    srgb = Box(b"colr", b"\1\0\0" + (16).to_bytes(4, "big"))
    children = [Box(b"ihdr", sizes), profile or srgb]
    if channels == 4:
        children.append(Box(b"cdef", _ALPHA_LAST))
    children += [b for b in inner if b.type == b"res "]
    return Box(b"jp2h", b"".join(b.encoded() for b in children))


def _with_comment(codestream: bytes, sentence: str) -> bytes:
    """Insert a COM segment after SIZ, the one segment whose place is fixed (ISO/IEC 15444-1, annex A)."""
    siz_end = 4 + int.from_bytes(codestream[4:6], "big")
    data = _LATIN + sentence.encode("latin-1", "replace")
    return codestream[:siz_end] + b"\xff\x64" + (len(data) + 2).to_bytes(2, "big") + data + codestream[siz_end:]
