"""Removes damaged and large metadata from a PNG before it is decoded.

Pillow refuses an image because of a wrong checksum in a text chunk, or of text above 1 MB. The copy's chunks are taken
from the original file (`png`).
"""

from __future__ import annotations

import struct
import zlib

from colorize.imaging.formats.budget import MAX_PIECES, Budget
from colorize.imaging.formats.encoded import Encoded, whole

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXT_BYTES = 1 << 20  # Pillow's limit for a decompressed text or profile
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_ALL_TEXT_BYTES = 1 << 24  # of all of them; Pillow's limit is 64 MB


def without_bad_chunks(data: Encoded) -> Encoded:
    """The file without ancillary chunks that are damaged or large; the same object if there are none."""
    bad = _bad_chunks(data)
    if not bad:
        return data
    kept, at = list[bytes](), 0
    content = whole(data)
    for start, end in bad:
        kept.append(content[at:start])
        at = end
    return b"".join((*kept, content[at:]))


def _bad_chunks(data: Encoded) -> list[tuple[int, int]]:
    """The byte ranges of ancillary chunks that are damaged or large."""
    found, position, text = list[tuple[int, int]](), len(_SIGNATURE), 0
    budget = Budget(MAX_PIECES, len(data))
    while position + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        end = position + 12 + length
        if end > len(data) or not kind.isalpha():
            break  # the decoder will report the error
        if kind[:1].islower():
            budget.take(1, 0)
            body = data[position + 8 : end]
            size = _decompressed_size(kind, body[:-4]) if kind in _TEXTS else 0
            text += size
            is_large = size > _TEXT_BYTES or text > _ALL_TEXT_BYTES
            if is_large or zlib.crc32(body[:-4], zlib.crc32(kind)) != int.from_bytes(body[-4:], "big"):
                found.append((position, end))
                text -= size
        position = end
    return found


def _decompressed_size(kind: bytes, body: bytes) -> int:
    """The decompressed size of a text or profile, at most limit + 1, which is also used for damaged ones."""
    compressed = _compressed(kind, body)
    if compressed is None:
        return len(body)
    try:
        return len(zlib.decompressobj().decompress(compressed, _TEXT_BYTES + 1))
    except zlib.error:
        return _TEXT_BYTES + 1


def _compressed(kind: bytes, body: bytes) -> bytes | None:
    """The compressed part of a chunk, or None if it is not compressed."""
    rest = body.partition(b"\0")[2]
    if kind in (b"zTXt", b"iCCP"):
        return rest[1:]
    if kind == b"iTXt" and rest[:1] == b"\1":
        return rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    return None
