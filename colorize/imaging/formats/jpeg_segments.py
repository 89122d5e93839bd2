"""The metadata segments of a JPEG that hold for its copy too.

EXIF is kept without its thumbnail; the Photoshop resources (IPTC among them) without theirs; so is JFIF. A profile is
replaced by its equivalent for the copy's kind of pixels. XMP is merged, comments are kept.
"""

from __future__ import annotations

from collections.abc import Iterator

from colorize.imaging.formats import exif
from colorize.imaging.formats.icc import fitting
from colorize.imaging.formats.jpeg_stream import APP0, APP1, APP2, APP13, APP14, APP15, COM, Segment
from colorize.imaging.formats.metadata import Words, is_own_sentence

_ICC, _XMP, _MPF, _ADOBE = b"ICC_PROFILE\0", b"http://ns.adobe.com/xap/1.0/\0", b"MPF\0", b"Adobe"
_JFIF, _JFXX, _PHOTOSHOP = b"JFIF\0", b"JFXX\0", b"Photoshop 3.0\0"
_LONGEST = 65533  # bytes of payload that fit a segment
_THUMBNAILS = (0x0409, 0x040C)  # Photoshop resources


def carried(header: list[Segment], words: Words, size: tuple[int, int], components: int) -> list[Segment]:
    """The source's metadata for a copy of `size` (width, height) with 1 or 3 `components`, and the `words`."""
    kept = [_without_thumbnail(s, size, components) for s in header if _is_metadata(s) and not _is_own(s)]
    xmp = next((s for s in kept if s.marker == APP1 and s.payload.startswith(_XMP)), None)
    kept = [s for s in kept if s is not xmp and not _is_profile(s)]
    first = [s for s in kept if s.marker == APP0]  # JFIF wants to be the first segment
    rest = [s for s in kept if s.marker != APP0]
    packet = words.xmp(xmp.payload[len(_XMP) :] if xmp else None)
    if packet and len(_XMP) + len(packet) > _LONGEST:  # a full segment: the sentence has to do
        packet = xmp.payload[len(_XMP) :] if xmp else None
    said = [Segment(APP1, _XMP + packet)] if packet else []
    said += [Segment(COM, words.sentence.encode())] if words.sentence else []
    return [*first, *rest, *_profile(header, components), *said]


def _profile(header: list[Segment], components: int) -> list[Segment]:
    chunks = sorted((s for s in header if _is_profile(s)), key=lambda s: s.payload[12:13])
    profile = fitting(b"".join(s.payload[14:] for s in chunks), components)
    if not profile:
        return []
    room = _LONGEST - 14
    parts = [profile[at : at + room] for at in range(0, len(profile), room)]
    return [Segment(APP2, _ICC + bytes((i, len(parts))) + part) for i, part in enumerate(parts, 1)]


def _is_profile(segment: Segment) -> bool:
    return segment.marker == APP2 and segment.payload.startswith(_ICC)


def _is_own(segment: Segment) -> bool:
    return segment.marker == COM and is_own_sentence(segment.payload.decode("utf-8", "replace"))


def _is_metadata(segment: Segment) -> bool:
    marker, payload = segment
    if marker == APP14 and payload.startswith(_ADOBE):
        return len(payload) >= 12 and payload[11] == 1  # another transform would name another color space
    if marker == APP2 and payload.startswith(_MPF):
        return False  # the other pictures of the file are not carried over
    if marker == APP0 and payload.startswith(_JFXX):
        return False  # a thumbnail and nothing else
    return marker == COM or APP0 <= marker <= APP15


def _without_thumbnail(segment: Segment, size: tuple[int, int], components: int) -> Segment:
    marker, payload = segment
    if marker == APP0 and payload.startswith(_JFIF) and len(payload) >= 14:
        return Segment(marker, payload[:12] + b"\0\0")
    if marker == APP1 and payload.startswith(exif.PREFIX):
        return Segment(marker, exif.refreshed(payload, size, components))
    if marker == APP13 and payload.startswith(_PHOTOSHOP):
        return Segment(marker, without_photoshop_thumbnails(payload))
    return segment


def without_photoshop_thumbnails(payload: bytes) -> bytes:
    """Photoshop's image resources, after their heading, without those that hold a thumbnail."""
    body = payload[len(_PHOTOSHOP) :]
    resources = list(_resources(body))
    if sum(len(data) for _, data in resources) != len(body):  # damaged, or continued in a further segment
        return payload
    return _PHOTOSHOP + b"".join(data for number, data in resources if number not in _THUMBNAILS)


def _resources(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each image resource: signature, number, Pascal string, length, data; both padded to even."""
    position = 0
    while body[position : position + 4] == b"8BIM" and position + 12 <= len(body):
        named = position + 6 + 1 + body[position + 6]
        named += (named - position) % 2
        end = named + 4 + int.from_bytes(body[named : named + 4], "big")
        end += (end - position) % 2
        yield int.from_bytes(body[position + 4 : position + 6], "big"), body[position:end]
        position = end
