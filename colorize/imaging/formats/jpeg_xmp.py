"""XMP in JPEG: a segment, and extension segments for longer packets (XMP specification, part 3)."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

from colorize.imaging.formats.jpeg_stream import APP1, Segment
from colorize.imaging.formats.metadata import MetadataUpdate
from colorize.imaging.formats.xmp import Name, Packet

_MAIN, _EXTENSION = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_HAS_EXTENSION = Name("http://ns.adobe.com/xmp/note/", "xmpNote", "HasExtendedXMP")
_PART = struct.Struct(">32sII")  # header of a part: MD5 of the extension in hexadecimal, its length, offset of the part
_MAX_PACKET = 65533 - len(_MAIN)
_MAX_PART = 65533 - len(_EXTENSION) - _PART.size


def is_xmp(segment: Segment) -> bool:
    """Whether a segment is XMP, or a part of extended XMP."""
    return segment.marker == APP1 and segment.payload.startswith((_MAIN, _EXTENSION))


def read_xmp(segments: Iterable[Segment]) -> bytes | None:
    """The XMP packet of a JPEG, including its extension."""
    found = [s for s in segments if is_xmp(s)]
    main = next((s.payload[len(_MAIN) :] for s in found if s.payload.startswith(_MAIN)), None)
    if main is None:
        return None
    packet = Packet(main)
    digest = packet.get(_HAS_EXTENSION)
    if digest is None:
        return main
    packet.remove(_HAS_EXTENSION)
    packet.include(Packet(_extension(found, digest)))
    return packet.encoded()


def xmp_segments(source: list[Segment], update: MetadataUpdate) -> list[Segment]:
    """The segments of a copy: the source's packet with the `update`.

    A packet that is too long for a segment is split. The first segment, which every reader supports, has the additions.
    """
    packet = update.xmp(read_xmp(source))
    if packet is None:
        return []
    if len(packet) <= _MAX_PACKET:
        return [Segment(APP1, _MAIN + packet)]
    main, extension = Packet(packet).split()
    digest = hashlib.md5(extension, usedforsecurity=False).hexdigest().upper()
    main.add({_HAS_EXTENSION: digest})
    encoded = main.encoded()
    assert encoded is not None  # it has at least the reference to the extension
    return [Segment(APP1, _MAIN + encoded), *_parts(extension, digest)]


def _parts(extension: bytes, digest: str) -> list[Segment]:
    offsets = range(0, len(extension), _MAX_PART)
    headers = (_PART.pack(digest.encode(), len(extension), at) for at in offsets)
    return [
        Segment(APP1, _EXTENSION + header + extension[at : at + _MAX_PART])
        for header, at in zip(headers, offsets, strict=True)
    ]


def _extension(segments: list[Segment], digest: str) -> bytes | None:
    """The extension with this digest, or None if a part of it is missing."""
    start, parts, length = len(_EXTENSION), dict[int, bytes](), 0
    for payload in (s.payload for s in segments if s.payload.startswith(_EXTENSION)):
        if len(payload) >= start + _PART.size:
            name, total, at = _PART.unpack_from(payload, start)
            if name.decode("latin-1").upper() == digest.upper():
                parts[at], length = payload[start + _PART.size :], total
    joined = b"".join(parts[at] for at in sorted(parts))
    return joined if length and len(joined) == length else None
