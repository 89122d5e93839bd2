"""PNG files: true-color pixels at 8 or 16 bits, with the source's own ancillary chunks carried over."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import imagecodecs

from colorize.image_io.metadata import Metadata, Provenance, is_rgb_profile
from colorize.image_io.picture import Plane

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_IHDR_END = 33  # signature (8), then length, type, 13 bytes and checksum of IHDR
_LEVEL = 3  # a third of level 6's time for files 3 % larger (photographs with grain)
_XMP = b"XML:com.adobe.xmp\0"

# What holds for the copy as for the source. Not kept: tRNS, PLTE, sBIT, bKGD, hIST (they depend on the color type).
_CARRIED = (b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"pHYs", b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"tIME")


class Chunk(NamedTuple):
    """One PNG chunk (ISO/IEC 15948, section 5.3)."""

    type: bytes
    data: bytes

    def encoded(self) -> bytes:
        checksum = zlib.crc32(self.data, zlib.crc32(self.type))
        return struct.pack(">I", len(self.data)) + self.type + self.data + struct.pack(">I", checksum)


def write_png(pixels: Plane, source: bytes, metadata: Metadata, provenance: Provenance | None) -> bytes:
    """Encode (H, W, 3 or 4) uint8 or uint16 pixels as PNG.

    The chunks come from `source` where that is a PNG, else from `metadata`.
    """
    encoded = bytes(imagecodecs.png_encode(pixels, level=_LEVEL))
    own = list(chunks(source)) if source.startswith(_SIGNATURE) else _from_metadata(metadata)
    carried = [c for c in own if c.type in _CARRIED and _fits_rgb(c) and not _is_xmp(c)]
    carried += _words(metadata.xmp, provenance)
    return encoded[:_IHDR_END] + b"".join(c.encoded() for c in carried) + encoded[_IHDR_END:]


def chunks(data: bytes) -> Iterator[Chunk]:
    """The chunks of a PNG file, up to its end or to where it is cut off."""
    position = len(_SIGNATURE)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        yield Chunk(data[position + 4 : position + 8], data[position + 8 : position + 8 + length])
        position += 12 + length


def _words(xmp: bytes | None, provenance: Provenance | None) -> list[Chunk]:
    """The XMP packet and the plain sentence; without provenance the source's own XMP."""
    packet = provenance.xmp(xmp) if provenance else xmp
    found = [Chunk(b"iTXt", _XMP + b"\0\0\0\0" + packet)] if packet else []
    if provenance:
        sentence = provenance.sentence.encode("latin-1", "replace")
        found.append(Chunk(b"tEXt", b"Comment\0" + sentence))
    return found


def _from_metadata(metadata: Metadata) -> list[Chunk]:
    found = []
    if metadata.icc:
        found.append(Chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.dpi and all(0 < d < 1e6 for d in metadata.dpi):
        x, y = (round(d / 0.0254) for d in metadata.dpi)
        found.append(Chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    if metadata.exif:
        found.append(Chunk(b"eXIf", metadata.exif.removeprefix(b"Exif\0\0")))
    for key, value in metadata.text.items():
        found.append(Chunk(b"iTXt", key.encode("latin-1", "replace") + b"\0\0\0\0\0" + value.encode()))
    return found


def _is_xmp(chunk: Chunk) -> bool:
    return chunk.type == b"iTXt" and chunk.data.startswith(_XMP)


def _fits_rgb(chunk: Chunk) -> bool:
    """Whether a profile describes RGB data; every other chunk does no harm."""
    if chunk.type != b"iCCP":
        return True
    compressed = chunk.data.partition(b"\0")[2][1:]
    try:
        return is_rgb_profile(zlib.decompressobj().decompress(compressed, 128))
    except zlib.error:
        return False
