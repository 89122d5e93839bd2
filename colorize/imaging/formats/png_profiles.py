"""EXIF, XMP and Photoshop resources in PNG as written by ImageMagick: as hexadecimal text.

A chunk with the keyword "Raw profile type NAME" has a line with the name, one with the length, and the bytes.
"""

from __future__ import annotations

import zlib

from colorize.imaging.formats import exif, photoshop

_KEYWORD = b"Raw profile type "
_EXIF, _PHOTOSHOP, XMP, _COLOR = (b"exif", b"APP1"), (b"8bim", b"iptc"), b"xmp", (b"icc", b"icm")
_MAX_BYTES = 1 << 26  # maximum size of a decompressed profile


def profile_name(kind: bytes, data: bytes) -> bytes:
    """The profile name of a chunk; b"" for other chunks."""
    if kind not in (b"tEXt", b"zTXt") or not data.startswith(_KEYWORD):
        return b""
    return data[len(_KEYWORD) :].partition(b"\0")[0]


def profile_bytes(kind: bytes, data: bytes) -> bytes | None:
    """The profile in such a chunk; None if it is damaged."""
    text = data.partition(b"\0")[2]
    try:
        if kind == b"zTXt":
            text = zlib.decompressobj().decompress(text[1:], _MAX_BYTES)
        _, length, digits = text.lstrip(b"\n").split(b"\n", 2)
        found = bytes.fromhex(digits.decode("ascii"))
        return found if len(found) == int(length) else None
    except (ValueError, zlib.error):
        return None


def iptc_text(resource: bytes) -> bytes:
    """The data of a zTXt chunk for IPTC, given as a Photoshop resource."""
    return _as_text(b"zTXt", b"iptc", resource)


def updated(kind: bytes, data: bytes, size: tuple[int, int], components: int) -> bytes | None:
    """The chunk's data for a copy of `size` (width, height): EXIF and resources without thumbnails.

    None for XMP, which is merged elsewhere, for color profiles, which are for the source's samples, and for damaged
    data.
    """
    name = profile_name(kind, data)
    profile = profile_bytes(kind, data)
    if profile is None or name == XMP or name in _COLOR:
        return None
    if name in _EXIF:
        return _as_text(kind, name, exif.updated(profile, size, components))
    if name in _PHOTOSHOP and photoshop.starts_with_resources(profile):
        heading = photoshop.HEADING if profile.startswith(photoshop.HEADING) else b""
        kept = photoshop.without_thumbnails(profile[len(heading) :])
        return _as_text(kind, name, heading + b"".join(kept))
    return data


def _as_text(kind: bytes, name: bytes, profile: bytes) -> bytes:
    digits = profile.hex().encode()
    lines = b"\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    text = b"\n%b\n%8d\n%b\n" % (name, len(profile), lines)
    packed = b"\0" + zlib.compress(text) if kind == b"zTXt" else text
    return _KEYWORD + name + b"\0" + packed
