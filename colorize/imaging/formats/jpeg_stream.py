"""Splits a JPEG file into segments and scans (ITU-T T.81, annex B) without decoding them, and joins them again.

A scan with a single component does not depend on the file's other components, so its bytes can be copied to a file with
more or fewer components. This adds color to a grey scan, and removes it again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from colorize.imaging.formats.budget import limited
from colorize.imaging.formats.errors import ImageDecodeError

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
SOF0, SOF1, SOF2, DHT, DAC, SOS, DQT, DNL, DRI = 0xC0, 0xC1, 0xC2, 0xC4, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD
APP0, APP1, APP2, APP11, APP13, APP14, APP15, COM = 0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xEE, 0xEF, 0xFE

_HUFFMAN_FRAMES = (SOF0, SOF1, SOF2)
# A marker except stuffed zeros, fill bytes and restarts. Begins with a literal, for which `re` has a fast search.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


class Segment(NamedTuple):
    """One marker segment: its marker's second byte and its payload."""

    marker: int
    payload: bytes

    def encoded(self) -> bytes:
        return bytes((0xFF, self.marker)) + (len(self.payload) + 2).to_bytes(2, "big") + self.payload


class Scan(NamedTuple):
    """One scan: the Huffman tables and restart intervals before it, its header and its entropy-coded data."""

    tables: tuple[Segment, ...]
    header: bytes  # the payload of SOS
    data: bytes

    @property
    def components(self) -> tuple[int, ...]:
        """Identifiers of the scan's components."""
        return tuple(self.header[1 : 1 + 2 * self.header[0] : 2])

    def encoded(self, component: int) -> bytes:
        """The scan of a single component, with this identifier."""
        header = bytes((1, component)) + self.header[2:]
        return b"".join(s.encoded() for s in (*self.tables, Segment(SOS, header))) + self.data


@dataclass(frozen=True, slots=True)
class Plane:
    """One component with its own scans, the marker of its frame and its quantization table as stored."""

    marker: int
    width: int
    height: int
    table: bytes  # precision (4 bits), identifier (4 bits), 64 values
    scans: tuple[Scan, ...]

    @property
    def progressive(self) -> bool:
        return self.marker == SOF2

    @property
    def has_restarts(self) -> bool:
        """Whether a restart interval is set at its end, which a following scan would inherit."""
        intervals = [s.payload for scan in self.scans for s in scan.tables if s.marker == DRI]
        return bool(intervals) and any(intervals[-1])


def first_plane(data: bytes) -> Plane | None:
    """The first component of a JPEG, if its scans have no other components; else None.

    Also None for arithmetic coding, 12 bits and files with a damaged structure.
    """
    try:
        return _first_plane(list(limited(_parts(data))))
    except ImageDecodeError:
        raise
    except (IndexError, ValueError):
        return None


def assemble(planes: tuple[Plane, ...], segments: Iterable[Segment], factors: int = 1) -> bytes:
    """A JPEG of one or three planes, the first with sampling factors `factors` x `factors`, the others 1 x 1.

    The image has the first plane's size. Metadata `segments` come first.
    """
    first = planes[0]
    header = [*segments, *(_quantization(p.table, int(i > 0)) for i, p in enumerate(planes[:2]))]
    sampling = [(1, factors * 17, 0), (2, 17, 1), (3, 17, 1)][: len(planes)]
    size = first.height.to_bytes(2, "big") + first.width.to_bytes(2, "big")
    header.append(Segment(first.marker, b"\x08" + size + bytes((len(planes), *(b for c in sampling for b in c)))))
    out = [SOI, *(segment.encoded() for segment in header)]
    for identifier, plane in enumerate(planes, 1):
        out += [scan.encoded(identifier) for scan in plane.scans]
        if plane.has_restarts and plane is not planes[-1]:
            out.append(Segment(DRI, b"\0\0").encoded())
    return b"".join((*out, EOI))


def segments(data: bytes) -> list[Segment]:
    """The marker segments of a JPEG's header, up to its first scan."""
    return [segment for segment, _ in limited(_header(data))]


def frame_marker(data: bytes) -> int | None:
    """The marker of a JPEG's frame, which defines its coding process."""
    return next((s.marker for s in segments(data) if _is_frame(s.marker)), None)


def scans_of_file(data: bytes) -> tuple[int, bytes, list[Scan]]:
    """The marker and the payload of a JPEG's frame, and its scans.

    Raises:
        ValueError: its structure is invalid.
    """
    parts = list(_parts(data))
    frame = next((s for s, _ in parts if _is_frame(s.marker)), None)
    if frame is None:
        raise ValueError("no frame")
    return frame.marker, frame.payload, [Scan((), s.payload, rest) for s, rest in parts if s.marker == SOS]


def _is_frame(marker: int) -> bool:
    return SOF0 <= marker <= 0xCF and marker not in (DHT, DAC, 0xC8)


def without_metadata(data: bytes) -> bytes:
    """The JPEG without its metadata."""
    found = list(limited(_header(data)))
    needed = b"".join(s.encoded() for s, _ in found if not (APP0 <= s.marker <= APP15 or s.marker == COM))
    return SOI + needed + data[found[-1][1] :] if found else data


def _header(data: bytes) -> Iterator[tuple[Segment, int]]:
    """Each segment before the first scan, with its end offset."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:  # decoders skip stray bytes between segments
            position = data.find(b"\xff", position)
            if position < 0:
                return
            continue
        marker = data[position + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD9:
            position += 1
            continue
        if marker == SOS:
            return
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        yield Segment(marker, data[position + 4 : position + 2 + length]), position + 2 + length
        position += 2 + length


def _parts(data: bytes) -> Iterator[tuple[Segment, bytes]]:
    """Each segment, with the entropy-coded data after it. Raises ValueError if the structure is invalid."""
    position = 2
    while True:
        if data[position] != 0xFF:
            raise ValueError("expected a marker")
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == EOI[1]:
            return
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        known = SOF0 <= marker <= DRI or APP0 <= marker <= APP15 or marker == COM
        if end > len(data) or not known or 0xD0 <= marker <= 0xD8:
            raise ValueError("unexpected segment")
        segment = Segment(marker, data[position + 4 : end])
        position = end
        if marker == SOS:
            position = _scan_end(data, end)
        yield segment, data[end:position]
        if position == len(data):  # no end marker, which decoders accept
            return


def _scan_end(data: bytes, start: int) -> int:
    """The end of the entropy-coded data from `start` on: before a marker and its fill bytes."""
    found = _MARKER.search(data, start)
    if found is None:
        return len(data)
    end = found.start()
    while end > start and data[end - 1] == 0xFF:
        end -= 1
    return end


def _first_plane(parts: list[tuple[Segment, bytes]]) -> Plane | None:
    markers = [segment.marker for segment, _ in parts]
    frames = [s for s, _ in parts if _is_frame(s.marker)]
    scans_begin = markers.index(SOS)
    if len(frames) != 1 or frames[0].marker not in _HUFFMAN_FRAMES or {DAC, DNL} & set(markers):
        return None
    if DQT in markers[scans_begin:] or frames[0].payload[0] != 8:
        return None
    frame = frames[0].payload
    identifier, table_id = frame[6], frame[8]
    scans = _scans_of(identifier, parts)
    table = next((t for s, _ in reversed(parts) if s.marker == DQT for t in _tables(s) if t[0] & 15 == table_id), None)
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    if not scans or table is None or not height:
        return None
    return Plane(frames[0].marker, width, height, table, scans)


def _scans_of(identifier: int, parts: list[tuple[Segment, bytes]]) -> tuple[Scan, ...]:
    """The scans of one component, or none if one of them has another component, too."""
    found, tables = list[Scan](), list[Segment]()
    for segment, data in parts:
        if segment.marker in (DHT, DRI):
            tables.append(segment)
        if segment.marker != SOS:
            continue
        scan = Scan(tuple(tables), segment.payload, data)
        if identifier not in scan.components:
            continue  # keep its tables, which a later scan may use
        if len(scan.components) != 1:
            return ()
        found.append(scan)
        tables = []
    return tuple(found)


def _tables(segment: Segment) -> list[bytes]:
    """The quantization tables of a DQT segment, each with its leading byte, in reverse order."""
    tables, position = [], 0
    while position < len(segment.payload):
        length = 129 if segment.payload[position] >> 4 else 65
        tables.append(segment.payload[position : position + length])
        position += length
    if any(len(table) < 65 for table in tables):
        raise ValueError("truncated quantization table")
    return tables[::-1]


def _quantization(table: bytes, identifier: int) -> Segment:
    return Segment(DQT, bytes((table[0] & 0xF0 | identifier,)) + table[1:])
