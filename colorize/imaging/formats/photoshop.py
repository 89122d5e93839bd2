"""Photoshop's image resources, including IPTC; kept except for thumbnails.

In JPEG they are in APP13 segments, which a resource may span, in TIFF in tag 34377. See Adobe Photoshop File Formats
Specification, "Image Resources Section".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from colorize.imaging.formats.metadata import Metadata

HEADING = b"Photoshop 3.0\0"
_SIGNATURES = (b"8BIM", b"MeSa", b"AgHg", b"PHUT", b"DCSR")
_THUMBNAILS = (0x0409, 0x040C)
_IPTC, _RESOLUTION, _EXIF, _XMP = 0x0404, 0x03ED, 0x0422, 0x0424


class Resource(NamedTuple):
    """One resource: its number, and its bytes including padding."""

    number: int
    data: bytes


def starts_with_resources(data: bytes) -> bool:
    """Whether data begins with image resources, with or without their heading."""
    return data.startswith((HEADING, *_SIGNATURES))


def metadata_of(resources: Iterable[tuple[int, bytes, bytes]]) -> Metadata:
    """The metadata in the resources of a PSD file, given as number, name and data."""
    found = {number: data for number, _, data in resources}
    iptc, density = found.get(_IPTC), found.get(_RESOLUTION, b"")
    header = b"8BIM" + _IPTC.to_bytes(2, "big") + bytes(2)
    return Metadata(
        exif=found.get(_EXIF),
        xmp=found.get(_XMP),
        iptc=header + len(iptc).to_bytes(4, "big") + iptc + bytes(len(iptc) % 2) if iptc else None,
        dpi=(_fixed(density[:4]), _fixed(density[8:12])) if len(density) >= 16 else None,
    )


def _fixed(number: bytes) -> float:
    """A fixed-point number of 16.16 bits."""
    return int.from_bytes(number, "big") / 65536


def without_thumbnails(body: bytes) -> list[bytes]:
    """The resources without thumbnails, and the rest of the data after the last valid resource."""
    found = list(_resources(body))
    rest = body[sum(len(resource.data) for resource in found) :]
    kept = [resource.data for resource in found if resource.number not in _THUMBNAILS]
    return [*kept, rest] if rest.strip(b"\0") else kept


def in_segments(resources: list[bytes], max_bytes: int) -> Iterator[bytes]:
    """Packs resources into pieces of at most `room` bytes, and splits only resources that are larger."""
    buffer = b""
    for resource in resources:
        if buffer and len(buffer) + len(resource) > max_bytes:
            yield buffer
            buffer = b""
        buffer += resource
        while len(buffer) > max_bytes:
            yield buffer[:max_bytes]
            buffer = buffer[max_bytes:]
    if buffer:
        yield buffer


def _resources(body: bytes) -> Iterator[Resource]:
    """Each resource: signature, number, Pascal string, length, data; string and data are padded to even."""
    position = 0
    while body[position : position + 4] in _SIGNATURES and position + 12 <= len(body):
        name_end = position + 6 + 1 + body[position + 6]
        name_end += (name_end - position) % 2
        end = name_end + 4 + int.from_bytes(body[name_end : name_end + 4], "big")
        if end > len(body):
            return
        end = min(end + (end - position) % 2, len(body))
        yield Resource(int.from_bytes(body[position + 4 : position + 6], "big"), body[position:end])
        position = end
