"""EXIF blocks, edited where they stand: nothing is moved, so makers' notes with their own offsets stay readable.

An EXIF block is a small TIFF file (JEITA CP-3451; TIFF 6.0, section 2): directories of entries of 12 bytes (tag,
type, count, value), the first of which links to a second one, that of a thumbnail. No pointer is trusted: what a
thumbnail's pointer names is blanked only where no directory or value of the rest lies.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

PREFIX = b"Exif\0\0"
_WIDTH, _HEIGHT, _PHOTOMETRIC, _SAMPLES = 256, 257, 262, 277
_EXIF_IFD, _PIXEL_X, _PIXEL_Y = 0x8769, 0xA002, 0xA003
_POINTERS = (_EXIF_IFD, 0x8825, 0xA005)  # EXIF, GPS and interoperability directories
_THUMBNAILS = ((0x201, 0x202), (273, 279))  # where a thumbnail begins, and its bytes: as JPEG, and as strips
_GREY, _RGB = 1, 2  # photometric interpretations
_SHORT, _LONG = 3, 4
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}


class _Entry(NamedTuple):
    tag: int
    type: int
    number: int
    place: int  # of its value, in bytes from the block's start
    value: int

    @property
    def span(self) -> range:
        """The bytes of a value that does not fit its entry."""
        size = _SIZES.get(self.type, 0) * self.number
        return range(self.value, self.value + size) if size > 4 else range(0)


def refreshed(exif: bytes, size: tuple[int, int], components: int) -> bytes:
    """The block for a copy of `size` (width, height) with 1 or 3 `components`; damaged ones come back as they are.

    The thumbnail goes, since it shows the source; dimensions and sample layout, where they are said, become the
    copy's. A leading "Exif\\0\\0" is kept.
    """
    prefix = PREFIX if exif.startswith(PREFIX) else b""
    block = bytearray(exif[len(prefix) :])
    try:
        order = {b"II": "<", b"MM": ">"}[bytes(block[:2])]
        (first,) = struct.unpack_from(order + "I", block, 4)
        _drop_thumbnail(block, first, order)
        _refresh(block, first, order, size, components)
    except (struct.error, KeyError):
        return exif
    return prefix + bytes(block)


def _refresh(block: bytearray, first: int, order: str, size: tuple[int, int], components: int) -> None:
    layout = {_WIDTH: size[0], _HEIGHT: size[1], _PHOTOMETRIC: _RGB if components == 3 else _GREY, _SAMPLES: components}
    inner = 0
    for entry in _entries(block, first, order):
        _set(block, order, entry, layout)
        if entry.tag == _EXIF_IFD:
            inner = entry.value  # of several the last, so that many cannot multiply the work
    for entry in _entries(block, inner, order) if inner else ():
        _set(block, order, entry, {_PIXEL_X: size[0], _PIXEL_Y: size[1]})


def _drop_thumbnail(block: bytearray, first: int, order: str) -> None:
    """Unlink the second directory, and cut its image off where that is the block's end, else blank it."""
    (count,) = struct.unpack_from(order + "H", block, first)
    link = first + 2 + 12 * count
    if link + 4 > len(block):
        return
    (second,) = struct.unpack_from(order + "I", block, link)
    struct.pack_into(order + "I", block, link, 0)
    if not second:
        return
    kept = [range(8), *_spans(block, first, order, linked=True)]
    gone = [*_spans(block, second, order, linked=False), *_images(block, second, order)]
    for start, stop in _beside(gone, kept, len(block)):
        block[start:stop] = bytes(stop - start)
    last = max(span.stop for span in kept if span)
    if any(span.start <= last < len(block) <= span.stop for span in gone) or not any(block[last:]):
        del block[last:]


def _images(block: bytearray, directory: int, order: str) -> list[range]:
    """What a thumbnail's directory says of the place of its image."""
    values = {entry.tag: entry.value for entry in _entries(block, directory, order)}
    found = ((values.get(start, 0), values.get(length, 0)) for start, length in _THUMBNAILS)
    return [range(start, start + length) for start, length in found if start > 0]


def _spans(block: bytearray, directory: int, order: str, *, linked: bool) -> Iterator[range]:
    """The bytes that a directory and its values take, those of directories that it points to among them."""
    entries = list(_entries(block, directory, order))
    yield range(directory, directory + 2 + 12 * len(entries) + 4)
    yield from (entry.span for entry in entries)
    inner = {entry.tag: entry.value for entry in entries if entry.tag in _POINTERS}  # of several the last
    for tag, place in inner.items() if linked else ():
        yield from _spans(block, place, order, linked=tag == _EXIF_IFD)


def _beside(gone: list[range], kept: list[range], size: int) -> Iterator[tuple[int, int]]:
    """The runs of bytes of `gone` that nothing of `kept` holds, within the block."""
    held = iter(_merged(kept))
    other = next(held, None)
    for span in _merged(gone):
        at, end = span.start, min(span.stop, size)
        while at < end:
            while other and other.stop <= at:
                other = next(held, None)
            if other is None or other.start >= end:
                yield at, end
                break
            if other.start > at:
                yield at, other.start
            at = other.stop


def _merged(spans: list[range]) -> list[range]:
    """The same bytes as runs in their order that do not touch."""
    found = list[range]()
    for span in sorted((s for s in spans if s), key=lambda s: s.start):
        if found and span.start <= found[-1].stop:
            found[-1] = range(found[-1].start, max(found[-1].stop, span.stop))
        else:
            found.append(span)
    return found


def _entries(block: bytearray, directory: int, order: str) -> list[_Entry]:
    """The entries of a directory that lie within the block; none where it lies outside."""
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
            return  # no room for it: what is there stays
        struct.pack_into(order + ("H" if entry.type == _SHORT else "I"), block, entry.place, values[entry.tag])
