"""Edits EXIF blocks in place: nothing is moved, so maker notes with their own offsets stay valid.

An EXIF block is a small TIFF file (JEITA CP-3451; TIFF 6.0, section 2): directories of 12-byte entries (tag, type,
count, value); the first directory links to a second one for the thumbnail. Pointers are not trusted: the thumbnail's
bytes are only blanked where they do not overlap other directories or values.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

PREFIX = b"Exif\0\0"
_WIDTH, _HEIGHT, _PHOTOMETRIC, _SAMPLES = 256, 257, 262, 277
_EXIF_IFD, _PIXEL_X, _PIXEL_Y = 0x8769, 0xA002, 0xA003
_POINTERS = (_EXIF_IFD, 0x8825, 0xA005)  # EXIF, GPS and interoperability directories
_THUMBNAILS = ((0x201, 0x202), (273, 279))  # offset and size of a thumbnail: as JPEG, and as strips
_GREY, _RGB = 1, 2  # photometric interpretations
_SHORT, _LONG = 3, 4
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}


class _Entry(NamedTuple):
    tag: int
    type: int
    number: int
    place: int  # offset of its value in the block
    value: int

    @property
    def span(self) -> range:
        """The bytes of a value that is stored outside of its entry."""
        size = _SIZES.get(self.type, 0) * self.number
        return range(self.value, self.value + size) if size > 4 else range(0)


def updated(exif: bytes, size: tuple[int, int], components: int) -> bytes:
    """Updates a block for a copy of `size` (width, height) with 1 or 3 `components`; damaged blocks are unchanged.

    Removes the thumbnail, which shows the source, and updates dimensions and sample layout if present. A leading
    "Exif\\0\\0" is kept.
    """
    prefix = PREFIX if exif.startswith(PREFIX) else b""
    block = bytearray(exif[len(prefix) :])
    try:
        order = {b"II": "<", b"MM": ">"}[bytes(block[:2])]
        (first,) = struct.unpack_from(order + "I", block, 4)
        _drop_thumbnail(block, first, order)
        _update_sizes(block, first, order, size, components)
    except (struct.error, KeyError):
        return exif
    return prefix + bytes(block)


def _update_sizes(block: bytearray, first: int, order: str, size: tuple[int, int], components: int) -> None:
    layout = {_WIDTH: size[0], _HEIGHT: size[1], _PHOTOMETRIC: _RGB if components == 3 else _GREY, _SAMPLES: components}
    inner = 0
    for entry in _entries(block, first, order):
        _set(block, order, entry, layout)
        if entry.tag == _EXIF_IFD:
            inner = entry.value  # only the last of several, to limit the work
    for entry in _entries(block, inner, order) if inner else ():
        _set(block, order, entry, {_PIXEL_X: size[0], _PIXEL_Y: size[1]})


def _drop_thumbnail(block: bytearray, first: int, order: str) -> None:
    """Unlinks the second directory, and truncates the block before its image or, if other data follows, blanks it."""
    (count,) = struct.unpack_from(order + "H", block, first)
    link = first + 2 + 12 * count
    if link + 4 > len(block):
        return
    (second,) = struct.unpack_from(order + "I", block, link)
    struct.pack_into(order + "I", block, link, 0)
    if not second:
        return
    kept = [range(8), *_spans(block, first, order, linked=True)]
    removed = [*_spans(block, second, order, linked=False), *_images(block, second, order)]
    for start, stop in _difference(removed, kept, len(block)):
        block[start:stop] = bytes(stop - start)
    last = max(span.stop for span in kept if span)
    if any(span.start <= last < len(block) <= span.stop for span in removed) or not any(block[last:]):
        del block[last:]


def _images(block: bytearray, directory: int, order: str) -> list[range]:
    """The ranges of the image in a thumbnail's directory."""
    values = {entry.tag: entry.value for entry in _entries(block, directory, order)}
    found = ((values.get(start, 0), values.get(length, 0)) for start, length in _THUMBNAILS)
    return [range(start, start + length) for start, length in found if start > 0]


def _spans(block: bytearray, directory: int, order: str, *, linked: bool) -> Iterator[range]:
    """The ranges of a directory, of its values, and with `linked` of the directories that it points to."""
    entries = list(_entries(block, directory, order))
    yield range(directory, directory + 2 + 12 * len(entries) + 4)
    yield from (entry.span for entry in entries)
    inner = {entry.tag: entry.value for entry in entries if entry.tag in _POINTERS}  # only the last of several
    for tag, place in inner.items() if linked else ():
        yield from _spans(block, place, order, linked=tag == _EXIF_IFD)


def _difference(removed: list[range], kept: list[range], size: int) -> Iterator[tuple[int, int]]:
    """The parts of `gone` that do not overlap `kept`, within the block."""
    kept_spans = iter(_union(kept))
    kept_span = next(kept_spans, None)
    for span in _union(removed):
        at, end = span.start, min(span.stop, size)
        while at < end:
            while kept_span and kept_span.stop <= at:
                kept_span = next(kept_spans, None)
            if kept_span is None or kept_span.start >= end:
                yield at, end
                break
            if kept_span.start > at:
                yield at, kept_span.start
            at = kept_span.stop


def _union(spans: list[range]) -> list[range]:
    """The union of ranges, as sorted disjoint ranges."""
    found = list[range]()
    for span in sorted((s for s in spans if s), key=lambda s: s.start):
        if found and span.start <= found[-1].stop:
            found[-1] = range(found[-1].start, max(found[-1].stop, span.stop))
        else:
            found.append(span)
    return found


def _entries(block: bytearray, directory: int, order: str) -> list[_Entry]:
    """The entries of a directory that are within the block."""
    if not 8 <= directory <= len(block) - 2:
        return []
    found = []
    (count,) = struct.unpack_from(order + "H", block, directory)
    for place in range(directory + 2, min(directory + 2 + 12 * count, len(block) - 11), 12):
        tag, type_, number, value = struct.unpack_from(order + "HHII", block, place)
        if type_ == _SHORT and number == 1:
            (value,) = struct.unpack_from(order + "H", block, place + 8)
        found.append(_Entry(tag, type_, number, place + 8, value))
    return found


def _set(block: bytearray, order: str, entry: _Entry, values: dict[int, int]) -> None:
    if entry.tag in values and entry.number == 1 and entry.type in (_SHORT, _LONG):
        if entry.type == _SHORT and values[entry.tag] > 0xFFFF:
            return  # it does not fit
        struct.pack_into(order + ("H" if entry.type == _SHORT else "I"), block, entry.place, values[entry.tag])
