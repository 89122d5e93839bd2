"""PNG files: grey or true-color pixels with 8 or 16 bits, and the source's ancillary chunks."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

import imagecodecs
import numpy as np

from colorize.imaging.formats import exif, png_profiles
from colorize.imaging.formats.budget import PROFILE_BYTES, decompressed, limited
from colorize.imaging.formats.decoded_image import Pixels, Plane, channels
from colorize.imaging.formats.encoded import Encoded
from colorize.imaging.formats.icc import for_components
from colorize.imaging.formats.metadata import Metadata, MetadataUpdate, is_own_sentence

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_IHDR_END = 33  # signature (8), then length, type, 13 bytes and checksum of IHDR
_LEVEL = 3  # takes a third of the time of level 6, for 3 % larger files (photographs with grain)
_HUGE = 1 << 26  # bytes of pixels: larger images are compressed here strip by strip, because libpng needs all pixels
_STRIP_BYTES = 1 << 20
_MAX_TEXT_BYTES = 1 << 26  # maximum size of decompressed metadata
_SUB = 1  # filter type; for images with grain as good as adaptive filters (ISO/IEC 15948, section 9)
_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_XMP, _COMMENT, _DISCLAIMER = b"XML:com.adobe.xmp\0", b"Comment\0", b"Disclaimer\0"

# Chunks that are valid for the copy, too. Not kept: tRNS, PLTE, sBIT, bKGD, hIST, which depend on the color type.
_COPIED = (b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"pHYs", b"sCAL", b"oFFs", b"eXIf", b"tEXt", b"zTXt", b"iTXt",
            b"tIME")  # fmt: skip


class Chunk(NamedTuple):
    """One PNG chunk (ISO/IEC 15948, section 5.3)."""

    type: bytes
    data: bytes

    def encoded(self) -> bytes:
        checksum = zlib.crc32(self.data, zlib.crc32(self.type))
        return struct.pack(">I", len(self.data)) + self.type + self.data + struct.pack(">I", checksum)


def write_png(out: IO[bytes], pixels: Pixels, source: Encoded, metadata: Metadata, update: MetadataUpdate) -> None:
    """Encode (H, W) or (H, W, 2 to 4) uint8 or uint16 pixels as PNG.

    Ancillary chunks are copied from `source` if it is a PNG, otherwise created from `metadata`.
    """
    source_chunks = (
        list(limited(chunks(source))) if source[: len(_SIGNATURE)] == _SIGNATURE else _from_metadata(metadata)
    )
    kept = (_adapted(c, pixels) for c in source_chunks if c.type in _COPIED and not _is_replaced(c))
    added = [c for c in kept if c]
    added += _provenance_chunks(
        metadata.xmp, update, commented=any(c.data.lower().startswith(_COMMENT.lower()) for c in added)
    )
    ancillary = b"".join(c.encoded() for c in added)
    if pixels.shape[0] * _row_bytes(pixels) > _HUGE:
        out.write(_SIGNATURE + _header(pixels).encoded() + ancillary)
        out.writelines(chunk.encoded() for chunk in _pixel_chunks(pixels))
        return
    encoded = bytes(imagecodecs.png_encode(np.asarray(pixels), level=_LEVEL))
    out.write(encoded[:_IHDR_END] + ancillary + encoded[_IHDR_END:])


def _header(pixels: Pixels) -> Chunk:
    height, width = pixels.shape[:2]
    kind = (
        8 * pixels.itemsize,
        _COLOR_TYPES[channels(pixels)],
        0,
        0,
        0,
    )  # bits, color type, compression, filter, interlace
    return Chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, *kind))


def _pixel_chunks(pixels: Pixels) -> Iterator[Chunk]:
    """The IDAT and IEND chunks; the pixels are read once, strip by strip."""
    compressor = zlib.compressobj(_LEVEL)
    rows = max(1, _STRIP_BYTES // _row_bytes(pixels))
    for top in range(0, pixels.shape[0], rows):
        if data := compressor.compress(_filtered(pixels[top : top + rows])):
            yield Chunk(b"IDAT", data)
    yield Chunk(b"IDAT", compressor.flush())
    yield Chunk(b"IEND", b"")


def _filtered(pixels: Plane) -> bytes:
    """Filtered rows: the filter type, then the bytewise difference from the pixel to the left."""
    raw = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(len(pixels), -1).view(np.uint8)
    step = channels(pixels) * pixels.itemsize
    rows = np.empty((len(raw), raw.shape[1] + 1), np.uint8)
    rows[:, 0], rows[:, 1 : step + 1] = _SUB, raw[:, :step]
    np.subtract(raw[:, step:], raw[:, :-step], out=rows[:, step + 1 :])
    return rows.tobytes()


def _row_bytes(pixels: Pixels) -> int:
    return pixels.shape[1] * channels(pixels) * pixels.itemsize


def chunks(data: Encoded) -> Iterator[Chunk]:
    """The chunks of a PNG file except IDAT, up to the end of the file."""
    position = len(_SIGNATURE)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if (kind := data[position + 4 : position + 8]) != b"IDAT":
            yield Chunk(kind, data[position + 8 : position + 8 + length])
        position += 12 + length


def read_xmp(data: Encoded) -> bytes | None:
    """The XMP packet of a PNG file, compressed or not."""
    source_chunks = list(chunks(data))
    chunk = next((c for c in source_chunks if c.type == b"iTXt" and c.data.startswith(_XMP)), None)
    if chunk is None:
        raw = next((c for c in source_chunks if png_profiles.profile_name(c.type, c.data) == png_profiles.XMP), None)
        return png_profiles.profile_bytes(raw.type, raw.data) if raw else None
    compression_flag, rest = chunk.data[len(_XMP) : len(_XMP) + 1], chunk.data[len(_XMP) + 2 :]
    text = rest.partition(b"\0")[2].partition(b"\0")[2]
    if compression_flag != b"\1":
        return text
    try:
        return zlib.decompressobj().decompress(text, _MAX_TEXT_BYTES)
    except zlib.error:
        return None


def _provenance_chunks(xmp: bytes | None, update: MetadataUpdate, commented: bool) -> list[Chunk]:
    """The chunks for the XMP packet and the plain sentence, which does not replace the source's comment."""
    packet = update.xmp(xmp)
    found = [Chunk(b"iTXt", _XMP + b"\0\0\0\0" + packet)] if packet else []
    if update.sentence:
        keyword = _DISCLAIMER if commented else _COMMENT
        found.append(Chunk(b"tEXt", keyword + update.sentence.encode("latin-1", "replace")))
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
    if metadata.iptc:
        found.append(Chunk(b"zTXt", png_profiles.iptc_text(metadata.iptc)))
    for key, value in metadata.text.items():
        found.append(Chunk(b"iTXt", key.encode("latin-1", "replace") + b"\0\0\0\0\0" + value.encode()))
    return found


def _is_replaced(chunk: Chunk) -> bool:
    """Whether a chunk is XMP, which is merged, or the sentence of an earlier coloring."""
    xmp = chunk.type == b"iTXt" and chunk.data.startswith(_XMP)
    sentence = chunk.data.partition(b"\0")[2].decode("latin-1")
    return xmp or (chunk.type == b"tEXt" and is_own_sentence(sentence))


def _adapted(chunk: Chunk, pixels: Pixels) -> Chunk | None:
    """The chunk for the copy: EXIF without thumbnail, and a converted color profile; None if it is dropped."""
    size, components = (pixels.shape[1], pixels.shape[0]), 3 if channels(pixels) > 2 else 1
    if chunk.type == b"eXIf":
        return Chunk(b"eXIf", exif.updated(chunk.data, size, components))
    if png_profiles.profile_name(chunk.type, chunk.data):
        data = png_profiles.updated(chunk.type, chunk.data, size, components)
        return Chunk(chunk.type, data) if data else None
    if chunk.type != b"iCCP":
        return chunk
    name, _, compressed = chunk.data.partition(b"\0")
    profile = for_components(decompressed(compressed[1:], PROFILE_BYTES), channels(pixels))
    return Chunk(b"iCCP", name + b"\0\0" + zlib.compress(profile)) if profile else None
