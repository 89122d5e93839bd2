"""Photoshop's image resources, in which IPTC lies too: kept, but for those that hold a picture of the source.

JPEG holds them in APP13 segments, which a resource may span; TIFF in tag 34377. Adobe Photoshop File Formats
Specification, "Image Resources Section".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

HEADING = b"Photoshop 3.0\0"
_SIGNATURES = (b"8BIM", b"MeSa", b"AgHg", b"PHUT", b"DCSR")
_THUMBNAILS = (0x0409, 0x040C)


class Resource(NamedTuple):
    """One resource: its number, and all of its bytes, padding included."""

    number: int
    data: bytes


def begins(data: bytes) -> bool:
    """Whether image resources begin here, with their heading or without."""
    return data.startswith((HEADING, *_SIGNATURES))


def without_thumbnails(body: bytes) -> list[bytes]:
    """The resources that are kept, each by itself, and whatever follows the last one that can be read."""
    found = list(_resources(body))
    rest = body[sum(len(resource.data) for resource in found) :]
    kept = [resource.data for resource in found if resource.number not in _THUMBNAILS]
    return [*kept, rest] if rest.strip(b"\0") else kept


def in_segments(resources: list[bytes], room: int) -> Iterator[bytes]:
    """The resources in pieces of at most `room` bytes: no resource is cut that fits one piece."""
    held = b""
    for resource in resources:
        if held and len(held) + len(resource) > room:
            yield held
            held = b""
        held += resource
        while len(held) > room:
            yield held[:room]
            held = held[room:]
    if held:
        yield held


def _resources(body: bytes) -> Iterator[Resource]:
    """Each resource: signature, number, Pascal string, length, data; string and data are padded to even."""
    position = 0
    while body[position : position + 4] in _SIGNATURES and position + 12 <= len(body):
        named = position + 6 + 1 + body[position + 6]
        named += (named - position) % 2
        end = named + 4 + int.from_bytes(body[named : named + 4], "big")
        if end > len(body):
            return
        end = min(end + (end - position) % 2, len(body))
        yield Resource(int.from_bytes(body[position + 4 : position + 6], "big"), body[position:end])
        position = end
