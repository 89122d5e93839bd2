"""Decompression bombs: small files that claim to contain, or expand to, far more than their size."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

GREY_TAGS = ((256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1),
             (278, 3, 1, 8), (279, 4, 1, 64))  # fmt: skip


def tiff_of_many_directories(count: int) -> bytes:
    """A chain of directories, each with the same grey image of 8 x 8 pixels."""
    tags = sorted((*GREY_TAGS, (273, 4, 1, 8)))
    size, start = 2 + 12 * len(tags) + 4, 8 + 64
    entries = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    links = (start + size * (number + 1) if number + 1 < count else 0 for number in range(count))
    return _tiff_start(start) + b"".join(entries + struct.pack("<I", link) for link in links)


def tiff_of_overlapping_tags(count: int, size: int) -> bytes:
    """A grey image with `count` private tags, the value of each the same `size` bytes."""
    value, start = 8 + 64, 8 + 64 + size
    tags = sorted((*GREY_TAGS, (273, 4, 1, 8), *((55_000 + number, 7, size, value) for number in range(count))))
    entries = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return _tiff_start(start) + bytes(size) + entries + bytes(4)


def tiff_of_nested_directories(count: int) -> bytes:
    """A grey image with `count` tags, each of which points to the same directory with as many tags."""
    start = 8 + 64
    tags = (*GREY_TAGS, (273, 4, 1, 8), *[(34_665, 4, 1, start)] * count)
    entries = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return _tiff_start(start) + entries + bytes(4)


def exif_of_nested_directories(count: int) -> bytes:
    """An EXIF block whose entries all point to their own directory."""
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, count) + struct.pack("<HHII", 0x8769, 4, 1, 8) * count + bytes(4)


def png(chunks: bytes, bits: int = 8) -> bytes:
    """A grey-and-alpha PNG of 8 x 8 pixels with further chunks before its pixels."""
    row = b"\0" + bytes(range(8)) * (2 * bits // 8)
    header = struct.pack(">IIBBBBB", 8, 8, bits, 4, 0, 0, 0)
    return b"".join((
        b"\x89PNG\r\n\x1a\n", png_chunk(b"IHDR", header), chunks, png_chunk(b"IDAT", zlib.compress(row * 8)),
        png_chunk(b"IEND", b""),
    ))  # fmt: skip


def png_of(width: int, height: int) -> bytes:
    """A color PNG that declares so many pixels but contains only the first ones."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zeros(1 << 20))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def zeros(size: int) -> bytes:
    """So many zeros, compressed a thousandfold."""
    stream = zlib.compressobj(9)
    piece = bytes(1 << 20)
    return b"".join((*(stream.compress(piece) for _ in range(size >> 20)), stream.flush()))


def profile_of_overlapping_tags(size: int) -> bytes:
    """A grey color profile of `size` bytes whose tags each cover nearly all of it."""
    names = (b"kTRC", b"desc", b"cprt", b"wtpt", b"chad")
    header = bytearray(128)
    header[16:24] = b"GRAYXYZ "
    table = b"".join(struct.pack(">4sII", name, 200 + number, size - 300) for number, name in enumerate(names))
    return (bytes(header) + struct.pack(">I", len(names)) + table).ljust(size, b"\0")


def xmp(body: str, encoding: str = "utf-8", prolog: str = "") -> bytes:
    """An XMP packet with `body` within its one description."""
    namespaces = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:n="urn:n"'
    packet = f"{prolog}<rdf:RDF {namespaces}><rdf:Description rdf:about=''>{body}</rdf:Description></rdf:RDF>"
    return packet.encode(encoding)


def entities(size: int) -> str:
    """A document type whose entity `&e;` expands to `size` characters."""
    return f'<!DOCTYPE x [<!ENTITY e "{"x" * size}">]>'


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    """A small grey JPEG with further segments at its start."""
    out = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(out, "JPEG")
    added = b"".join(bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data for marker, data in segments)
    return out.getvalue()[:2] + added + out.getvalue()[2:]


def jp2(boxes: bytes) -> bytes:
    """A small JPEG 2000 file with further boxes before its codestream."""
    out = io.BytesIO()
    Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32)).save(out, "JPEG2000")
    place = out.getvalue().index(b"jp2c") - 4
    return out.getvalue()[:place] + boxes + out.getvalue()[place:]


def _tiff_start(directory: int) -> bytes:
    return b"II*\0" + struct.pack("<I", directory) + bytes(range(64))
