"""The tags of a TIFF file as raw values: read, and laid out again in the same byte order, so that nothing is lost.

TIFF 6.0, section 2; BigTIFF directories are read too. Values are never interpreted: text of any encoding, IPTC that
was stored as numbers, and types that were misused come out as they went in. Offsets inside a value (makers' notes)
are the exception: values move.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from colorize.imaging.formats.budget import MOST_PIECES, Budget
from colorize.imaging.formats.encoded import Encoded

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
# type -> bytes of one value: BYTE, ASCII, SHORT, LONG, RATIONAL, SBYTE, UNDEFINED, SSHORT, SLONG, SRATIONAL, FLOAT,
# DOUBLE, IFD, LONG8, SLONG8, IFD8
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_ONLY_BIG = (16, 17, 18)
_NESTED = (34665, 34853, 40965)  # EXIF, GPS and interoperability directories
MOST_DIRECTORIES = 100_000  # that are counted


class Tag(NamedTuple):
    """One entry of a directory: its number, type and bytes, or the directory that it points to."""

    number: int
    type: int
    data: bytes
    inner: tuple[Tag, ...] = ()


class _Layout(NamedTuple):
    """How offsets and directories are written: TIFF or BigTIFF, in one of two byte orders."""

    order: str
    amount: str
    entry: str
    inline: int

    @property
    def offset(self) -> str:
        return "Q" if self.inline == 8 else "I"


def byte_order(data: Encoded) -> str:
    """ "<" or ">" for struct."""
    return "<" if data[:2] == b"II" else ">"


def read_tags(data: Encoded) -> list[Tag]:
    """The tags of the first directory, nested ones within theirs; those that are damaged are left out.

    Raises:
        ImageDecodeError: there are more than `MOST_PIECES`, or their values overlap to more bytes than the file has.
    """
    layout, first = _start(data)
    return list(_directory(data, first, layout, Budget(MOST_PIECES, len(data)), depth=0))


def count_directories(data: Encoded) -> int:
    """How many directories follow one another, each a picture or a page: 1 at least, `MOST_DIRECTORIES` at most."""
    seen = set[int]()
    try:
        layout, at = _start(data)
        while at and at not in seen and len(seen) < MOST_DIRECTORIES:
            seen.add(at)
            at = _next_directory(data, at, layout)
    except struct.error:  # a link that leads out of the file ends the chain
        pass
    return max(1, len(seen))


def text(number: int, value: str) -> Tag:
    """A tag of text."""
    return Tag(number, ASCII, value.encode("ascii", "replace") + b"\0")


def numbers(order: str, number: int, type: int, values: Iterable[int]) -> Tag:
    """A tag of SHORT or LONG values."""
    items = tuple(values)
    return Tag(number, type, struct.pack(f"{order}{len(items)}{'H' if type == SHORT else 'I'}", *items))


def header(order: str, directory: int) -> bytes:
    """The 8 bytes that a TIFF file begins with, `directory` being where its first directory lies."""
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", directory)


def encoded(order: str, tags: Iterable[Tag], start: int) -> bytes:
    """A directory that begins at `start`, followed by its values and the directories within."""
    kept = sorted({tag.number: tag for tag in tags}.values())
    end = start + 2 + 12 * len(kept) + 4
    entries, body = bytearray(struct.pack(order + "H", len(kept))), bytearray()
    for tag in kept:
        data, count = tag.data, len(tag.data) // _SIZES[tag.type]
        if tag.inner:
            data, count = struct.pack(order + "I", end + len(body)), 1
            body += encoded(order, tag.inner, end + len(body))
        elif len(data) > 4:
            at = struct.pack(order + "I", end + len(body))
            body += data + bytes(len(data) % 2)
            data = at
        entries += struct.pack(order + "HHI", tag.number, tag.type, count) + data.ljust(4, b"\0")
    return bytes(entries) + bytes(4) + bytes(body)


def _start(data: Encoded) -> tuple[_Layout, int]:
    """How the file is laid out, and where its first directory lies."""
    order = byte_order(data)
    big = _unpacked(order + "H", data, 2)[0] == 43
    layout = _Layout(order, "Q", "HHQ", 8) if big else _Layout(order, "H", "HHI", 4)
    return layout, int(_unpacked(order + layout.offset, data, 8 if big else 4)[0])


def _next_directory(data: Encoded, at: int, layout: _Layout) -> int:
    (count,) = _unpacked(layout.order + layout.amount, data, at)
    entries = count * (struct.calcsize(layout.order + layout.entry) + layout.inline)
    link = at + struct.calcsize(layout.order + layout.amount) + entries
    return int(_unpacked(layout.order + layout.offset, data, link)[0])


def _directory(data: Encoded, at: int, layout: _Layout, budget: Budget, depth: int) -> Iterator[Tag]:
    try:
        (count,) = _unpacked(layout.order + layout.amount, data, at)
    except struct.error:
        return
    entry = struct.Struct(layout.order + layout.entry)
    position = at + struct.calcsize(layout.order + layout.amount)
    for start in range(position, position + count * (entry.size + layout.inline), entry.size + layout.inline):
        if start + entry.size + layout.inline > len(data):
            return
        budget.take(1, 0)
        yield from _tag(data, start, entry, layout, budget, depth)


def _tag(data: Encoded, start: int, entry: struct.Struct, layout: _Layout, budget: Budget, depth: int) -> Iterator[Tag]:
    number, type_, count = entry.unpack(data[start : start + entry.size])
    size = _SIZES.get(type_, 0) * count
    place = start + entry.size
    (offset,) = _unpacked(layout.order + layout.offset, data, place)
    if number in _NESTED and depth < 2 and size <= layout.inline:
        inner = tuple(_directory(data, offset, layout, budget, depth + 1))
        if inner:
            yield Tag(number, LONG, b"", inner)
        return
    if size > layout.inline:
        place = offset
    if size > 0 and place + size <= len(data) and type_ not in _ONLY_BIG:
        budget.take(0, size)
        yield Tag(number, type_, data[place : place + size])


def _unpacked(form: str, data: Encoded, at: int) -> tuple[Any, ...]:
    return struct.unpack(form, data[at : at + struct.calcsize(form)])
