"""EXIF blocks, edited where they stand: nothing is moved, so makers' notes with their own offsets stay readable.

An EXIF block is a small TIFF file (JEITA CP-3451; TIFF 6.0, section 2): directories of entries of 12 bytes (tag,
type, count, value), the first of which links to a second one, that of a thumbnail.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

PREFIX = b"Exif\0\0"
_WIDTH, _HEIGHT, _PHOTOMETRIC, _SAMPLES = 256, 257, 262, 277
_EXIF_IFD, _PIXEL_X, _PIXEL_Y = 0x8769, 0xA002, 0xA003
_THUMBNAIL, _THUMBNAIL_BYTES = 0x201, 0x202
_GREY, _RGB = 1, 2  # photometric interpretations
_SHORT, _LONG = 3, 4


class _Entry(NamedTuple):
    tag: int
    type: int
    number: int
    place: int  # of its value, in bytes from the block's start
    value: int


def refreshed(exif: bytes, size: tuple[int, int], components: int) -> bytes:
    """The block for a copy of `size` (width, height) with 1 or 3 `components`; damaged ones come back as they are.

    The thumbnail goes, since it shows the source; dimensions and sample layout, where they are said, become the
    copy's. A leading "Exif\\0\\0" is kept.
    """
    prefix = PREFIX if exif.startswith(PREFIX) else b""
    block = bytearray(exif[len(prefix) :])
    try:
        _refresh(block, size, components)
    except (struct.error, KeyError):
        return exif
    return prefix + bytes(block)


def _refresh(block: bytearray, size: tuple[int, int], components: int) -> None:
    order = {b"II": "<", b"MM": ">"}[bytes(block[:2])]
    (first,) = struct.unpack_from(order + "I", block, 4)
    layout = {_WIDTH: size[0], _HEIGHT: size[1], _PHOTOMETRIC: _RGB if components == 3 else _GREY, _SAMPLES: components}
    inner = 0
    for entry in _entries(block, first, order):
        _set(block, order, entry, layout)
        if entry.tag == _EXIF_IFD:
            inner = entry.value  # of several the last, so that many cannot multiply the work
    for entry in _entries(block, inner, order) if inner else ():
        _set(block, order, entry, {_PIXEL_X: size[0], _PIXEL_Y: size[1]})
    _drop_thumbnail(block, first, order)


def _drop_thumbnail(block: bytearray, first: int, order: str) -> None:
    """Unlink the second directory, and cut its picture off where that is the block's end, else blank it."""
    (count,) = struct.unpack_from(order + "H", block, first)
    link = first + 2 + 12 * count
    if link + 4 > len(block):
        return
    (second,) = struct.unpack_from(order + "I", block, link)
    if not second:
        return
    values = {e.tag: e.value for e in _entries(block, second, order)}
    struct.pack_into(order + "I", block, link, 0)
    start, length = values.get(_THUMBNAIL, 0), values.get(_THUMBNAIL_BYTES, 0)
    if start > 0 and start + length >= len(block):
        del block[start:]
    elif start > 0:
        block[start : start + length] = bytes(length)


def _entries(block: bytearray, directory: int, order: str) -> Iterator[_Entry]:
    (count,) = struct.unpack_from(order + "H", block, directory)
    for place in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, type_, number, value = struct.unpack_from(order + "HHII", block, place)
        if type_ == _SHORT:
            (value,) = struct.unpack_from(order + "H", block, place + 8)
        yield _Entry(tag, type_, number, place + 8, value)


def _set(block: bytearray, order: str, entry: _Entry, values: dict[int, int]) -> None:
    if entry.tag in values and entry.number == 1 and entry.type in (_SHORT, _LONG):
        if entry.type == _SHORT and values[entry.tag] > 0xFFFF:
            return  # no room for it: what is there stays
        struct.pack_into(order + ("H" if entry.type == _SHORT else "I"), block, entry.place, values[entry.tag])
