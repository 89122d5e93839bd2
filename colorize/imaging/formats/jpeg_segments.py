"""The metadata segments of a JPEG's copy.

EXIF, JFIF and Photoshop resources (including IPTC) are kept without thumbnails, comments are kept, XMP is merged, and
the color profile is converted to the copy's color space. Signed claims (C2PA), gain maps and further images are
dropped, because they are only valid for the source.
"""

from __future__ import annotations

from colorize.imaging.formats import exif, photoshop
from colorize.imaging.formats.icc import for_components
from colorize.imaging.formats.jpeg_stream import APP0, APP1, APP2, APP11, APP13, APP14, APP15, COM, Segment
from colorize.imaging.formats.jpeg_xmp import is_xmp, xmp_segments
from colorize.imaging.formats.metadata import MetadataUpdate, is_own_sentence

_ICC, _MPF, _ADOBE = b"ICC_PROFILE\0", b"MPF\0", b"Adobe"
_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
_JFIF, _JFXX = b"JFIF\0", b"JFXX\0"
MAX_PAYLOAD = 65533  # maximum payload of a segment in bytes


def copied_segments(
    header: list[Segment], update: MetadataUpdate, size: tuple[int, int], components: int
) -> list[Segment]:
    """The source's metadata for a copy of `size` (width, height) with 1 or 3 `components`, with the `update`."""
    kept = [_without_thumbnail(s, size, components) for s in header if _is_metadata(s) and not _is_own(s)]
    kept = [s for s in _without_photoshop_thumbnails(kept) if not is_xmp(s) and not _is_profile(s)]
    first = [s for s in kept if s.marker == APP0]  # JFIF must be the first segment
    rest = [s for s in kept if s.marker != APP0]
    added = xmp_segments([s for s in header if is_xmp(s)], update)
    added += [Segment(COM, update.sentence.encode())] if update.sentence else []
    return [*first, *rest, *_profile(header, components), *added]


def _profile(header: list[Segment], components: int) -> list[Segment]:
    """The profile in chunks; none if a chunk is missing, because readers would ignore it."""
    chunks = sorted((s.payload for s in header if _is_profile(s)), key=lambda payload: payload[12:13])
    count = len(chunks)
    if any(chunk[12:14] != bytes((number, count)) for number, chunk in enumerate(chunks, 1)):
        return []
    profile = for_components(b"".join(chunk[14:] for chunk in chunks), components)
    if not profile:
        return []
    part_size = MAX_PAYLOAD - 14
    parts = [profile[at : at + part_size] for at in range(0, len(profile), part_size)]
    return [Segment(APP2, _ICC + bytes((i, len(parts))) + part) for i, part in enumerate(parts, 1)]


def _is_profile(segment: Segment) -> bool:
    return segment.marker == APP2 and segment.payload.startswith(_ICC)


def _is_own(segment: Segment) -> bool:
    return segment.marker == COM and is_own_sentence(segment.payload.decode("utf-8", "replace"))


def _is_metadata(segment: Segment) -> bool:
    marker, payload = segment
    if marker == APP14 and payload.startswith(_ADOBE):
        return len(payload) >= 12 and payload[11] == 1  # other transforms are for other color spaces
    if marker == APP2 and payload.startswith((_MPF, _GAIN_MAP)):
        return False  # the other images of the file are not copied
    if marker == APP0 and payload.startswith(_JFXX):
        return False  # only a thumbnail
    return marker != APP11 and (marker == COM or APP0 <= marker <= APP15)  # APP11 is JUMBF: claims, further images


def _without_thumbnail(segment: Segment, size: tuple[int, int], components: int) -> Segment:
    marker, payload = segment
    if marker == APP0 and payload.startswith(_JFIF) and len(payload) >= 14:
        return Segment(marker, payload[:12] + b"\0\0")
    if marker == APP1 and payload.startswith(exif.PREFIX):
        return Segment(marker, exif.updated(payload, size, components))
    return segment


def _without_photoshop_thumbnails(header: list[Segment]) -> list[Segment]:
    """Photoshop's resources, which may span segments, at the position of the first of these segments."""
    photoshop_segments = [s for s in header if s.marker == APP13 and s.payload.startswith(photoshop.HEADING)]
    if not photoshop_segments:
        return header
    at = header.index(photoshop_segments[0])
    kept = photoshop.without_thumbnails(b"".join(s.payload[len(photoshop.HEADING) :] for s in photoshop_segments))
    pieces = photoshop.in_segments(kept, MAX_PAYLOAD - len(photoshop.HEADING))
    rebuilt = [Segment(APP13, photoshop.HEADING + piece) for piece in pieces]
    before, after = header[:at], [s for s in header[at:] if s not in photoshop_segments]
    return [*before, *rebuilt, *after]
