"""Reads and writes the tags of TIFF and BigTIFF files as raw values in the same byte order (TIFF 6.0, section 2).

Values are not interpreted, so text of any encoding, IPTC stored as numbers, and misused types are preserved. The
exception is offsets inside of values (maker notes), because values are moved.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

from colorize.imaging.formats.budget import MAX_PIECES, Budget
from colorize.imaging.formats.encoded import Encoded

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 1, 2, 3, 4, 5, 7, 16
_STRUCT_CODES = {SHORT: "H", LONG: "I", LONG8: "Q"}
# type -> bytes of one value: BYTE, ASCII, SHORT, LONG, RATIONAL, SBYTE, UNDEFINED, SSHORT, SLONG, SRATIONAL, FLOAT,
# DOUBLE, IFD, LONG8, SLONG8, IFD8; and UTF-8 (EXIF 3.0)
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8, 129: 1}
_BIGTIFF_TYPES = (16, 17, 18)
_NESTED = (34665, 34853, 40965)  # EXIF, GPS and interoperability directories
_LEAST_OFFSET = 8  # of a value: the header is before it, and libraries ignore a value that begins there
MAX_DIRECTORIES = 100_000  # maximum number of directories that are counted


class Tag(NamedTuple):
    """An entry of a directory: its number, type and bytes, or the directory that it points to."""

    number: int
    type: int
    data: bytes
    inner: tuple[Tag, ...] = ()


class Layout(NamedTuple):
    """The layout of offsets and directories: TIFF or BigTIFF, and byte order ("<" or ">" for struct)."""

    order: str
    is_big: bool

    @property
    def amount(self) -> struct.Struct:
        """The number of a directory's entries."""
        return _struct(self.order + ("Q" if self.is_big else "H"))

    @property
    def offset(self) -> struct.Struct:
        """An offset in the file."""
        return _struct(self.order + ("Q" if self.is_big else "I"))

    @property
    def entry(self) -> struct.Struct:
        """An entry's number, type and count, without its value or offset."""
        return _struct(self.order + ("HHQ" if self.is_big else "HHI"))

    @property
    def link(self) -> int:
        """The position of the first directory's offset in the header."""
        return 8 if self.is_big else 4

    @property
    def pointer(self) -> int:
        """The type of tags with offsets."""
        return LONG8 if self.is_big else LONG

    def header(self) -> bytes:
        """The file's header, without the offset of its first directory."""
        mark = b"II" if self.order == "<" else b"MM"
        numbers = (43, 8, 0) if self.is_big else (42,)
        return mark + struct.pack(f"{self.order}{len(numbers)}H", *numbers)


@cache
def _struct(form: str) -> struct.Struct:
    return struct.Struct(form)


def byte_order(data: Encoded) -> str:
    """The byte order for struct: "<" or ">"."""
    return "<" if data[:2] == b"II" else ">"


def read_tags(data: Encoded, directory: int) -> list[Tag]:
    """The tags of the directory at an offset, including nested directories, without damaged tags.

    Raises:
        ImageDecodeError: there are more than `MAX_PIECES`, or overlapping values are larger than the file.
    """
    return list(_directory(data, directory, layout_of(data), Budget(MAX_PIECES, len(data)), depth=0))


def directory_offsets(data: Encoded) -> list[int]:
    """The offsets of the directories in the main chain, up to a damaged or repeated one.

    Raises:
        struct.error: the header is truncated.
    """
    return list(islice(_chain(data), MAX_DIRECTORIES))


def _chain(data: Encoded) -> Iterator[int]:
    layout = layout_of(data)
    (at,) = _unpacked(layout.offset, data, layout.link)
    found, amount, link = set[int](), layout.amount, layout.offset
    entry, size = layout.entry.size + link.size, len(data)
    while at and at not in found and at + amount.size <= size:
        found.add(at)
        yield at
        (count,) = _unpacked(amount, data, at)
        end = at + amount.size + count * entry
        if end + link.size > size:
            return
        (at,) = _unpacked(link, data, end)


def layout_of(data: Encoded) -> Layout:
    """The layout of a file."""
    order = byte_order(data)
    return Layout(order, _unpacked(struct.Struct(order + "H"), data, 2)[0] == 43)


def text(number: int, value: str) -> Tag:
    """A tag of text."""
    return Tag(number, ASCII, value.encode("ascii", "replace") + b"\0")


def numbers(order: str, number: int, type: int, values: Iterable[int]) -> Tag:
    """A tag of SHORT, LONG or LONG8 values."""
    items = tuple(values)
    return Tag(number, type, struct.pack(f"{order}{len(items)}{_STRUCT_CODES[type]}", *items))


def encoded(layout: Layout, tags: Iterable[Tag], start: int) -> tuple[bytes, int]:
    """A directory for the offset `start` with its values and nested directories, and the position of its next link."""
    kept = sorted({tag.number: tag for tag in tags}.values())
    link = start + layout.amount.size + (layout.entry.size + layout.offset.size) * len(kept)
    end = link + layout.offset.size
    entries, body = bytearray(layout.amount.pack(len(kept))), bytearray()
    for tag in kept:
        kind, data, count = tag.type, tag.data, len(tag.data) // _SIZES[tag.type]
        if tag.inner:
            kind, data, count = layout.pointer, layout.offset.pack(end + len(body)), 1
            body += encoded(layout, tag.inner, end + len(body))[0]
        elif len(data) > layout.offset.size:
            at = layout.offset.pack(end + len(body))
            body += data + bytes(len(data) % 2)
            data = at
        entries += layout.entry.pack(tag.number, kind, count) + data.ljust(layout.offset.size, b"\0")
    return bytes(entries) + bytes(layout.offset.size) + bytes(body), link


def _directory(data: Encoded, at: int, layout: Layout, budget: Budget, depth: int) -> Iterator[Tag]:
    try:
        (count,) = _unpacked(layout.amount, data, at)
    except struct.error:
        return
    size, position = layout.entry.size + layout.offset.size, at + layout.amount.size
    for start in range(position, position + count * size, size):
        if start + size > len(data):
            return
        budget.take(1, 0)
        yield from _tag(data, start, layout, budget, depth)


def _tag(data: Encoded, start: int, layout: Layout, budget: Budget, depth: int) -> Iterator[Tag]:
    number, type_, count = _unpacked(layout.entry, data, start)
    size = _SIZES.get(type_, 0) * count
    place = start + layout.entry.size
    (offset,) = _unpacked(layout.offset, data, place)
    if number in _NESTED and depth < 2 and size <= layout.offset.size:
        if type_ in (LONG, 13):  # in BigTIFF, a 32-bit offset in a 64-bit field
            (offset,) = _unpacked(struct.Struct(layout.order + "I"), data, place)
        inner = tuple(_directory(data, offset, layout, budget, depth + 1))
        if inner:
            yield Tag(number, LONG, b"", inner)
        return
    if size > layout.offset.size:
        place = offset
    if (
        size > 0
        and place >= _LEAST_OFFSET
        and place + size <= len(data)
        and (layout.is_big or type_ not in _BIGTIFF_TYPES)
    ):
        budget.take(0, size)
        yield Tag(number, type_, data[place : place + size])


def _unpacked(form: struct.Struct, data: Encoded, at: int) -> tuple[Any, ...]:
    return form.unpack(data[at : at + form.size])
