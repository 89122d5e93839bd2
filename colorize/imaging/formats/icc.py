"""Converts ICC profiles (ICC.1:2022) between grey and RGB.

A grey profile with one tone curve is equivalent, for grey colors, to an RGB profile with this curve for each channel,
the same white, and any primaries that add up to it. Conversely, an RGB profile with three equal curves has an
equivalent grey profile. Profiles without such curves (lookup tables, a Lab connection space) are not converted.
"""

from __future__ import annotations

import struct

_HEADER = 128
_GREY, _RGB, _XYZ, _DISPLAY = b"GRAY", b"RGB ", b"XYZ ", b"mntr"
_SHARED = (b"desc", b"cprt", b"wtpt", b"chad")
_RED, _GREEN, _BLUE = b"rTRC", b"gTRC", b"bTRC"
# The sRGB primaries adapted to D50, the white of the connection space, to which they add up (IEC 61966-2-1).
_PRIMARIES = {
    b"rXYZ": (0.43607, 0.22249, 0.01392), b"gXYZ": (0.38515, 0.71687, 0.09708), b"bXYZ": (0.14307, 0.06061, 0.71410),
}  # fmt: skip


def for_rgb(profile: bytes | None) -> bytes | None:
    """A profile for RGB pixels: an RGB profile unchanged, the equivalent of a grey profile, or None."""
    if not profile or _space(profile) == _RGB:
        return profile or None
    tags = tags_of(profile)
    if _space(profile) != _GREY or b"kTRC" not in tags or profile[20:24] != _XYZ:
        return None
    curves = dict.fromkeys((_RED, _GREEN, _BLUE), tags[b"kTRC"])
    primaries = {name: b"XYZ \0\0\0\0" + _fixed(*xyz) for name, xyz in _PRIMARIES.items()}
    return _assembled(profile, _RGB, {**_shared(tags), **primaries, **curves})


def for_grey(profile: bytes | None) -> bytes | None:
    """A profile for grey pixels: a grey profile unchanged, the equivalent of an RGB profile, or None."""
    if not profile or _space(profile) == _GREY:
        return profile or None
    tags = tags_of(profile)
    curves = {tags.get(name) for name in (_RED, _GREEN, _BLUE)}
    curve = tags.get(_RED)
    if _space(profile) != _RGB or curve is None or len(curves) != 1 or profile[20:24] != _XYZ:
        return None
    return _assembled(profile, _GREY, {**_shared(tags), b"kTRC": curve})


def for_components(profile: bytes | None, components: int) -> bytes | None:
    """`for_grey` for 1 or 2 components, `for_rgb` for 3 or 4."""
    return for_rgb(profile) if components > 2 else for_grey(profile)


def _space(profile: bytes) -> bytes:
    return profile[16:20]


def tags_of(profile: bytes) -> dict[bytes, bytes]:
    """The tags of a profile; none if its table is damaged, or if overlapping tags are larger than the profile.

    Tags may share data, such as the curve of three channels.
    """
    try:
        (count,) = struct.unpack_from(">I", profile, _HEADER)
        rows = [struct.unpack_from(">4sII", profile, _HEADER + 4 + 12 * i) for i in range(min(count, 100))]
    except struct.error:
        return {}
    if sum(size for _, size in {(at, size) for _, at, size in rows}) > len(profile):
        return {}
    return {name: profile[at : at + size] for name, at, size in rows if at + size <= len(profile)}


def _shared(tags: dict[bytes, bytes]) -> dict[bytes, bytes]:
    return {name: tags[name] for name in _SHARED if name in tags}


def _fixed(*values: float) -> bytes:
    """s15Fixed16 numbers."""
    return struct.pack(f">{len(values)}i", *(round(v * 65536) for v in values))


def _assembled(source: bytes, space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A display profile with the source's header, in which equal tags share their data."""
    body, offsets = bytearray(), dict[bytes, int]()
    start = _HEADER + 4 + 12 * len(tags)
    for data in tags.values():
        if data not in offsets:
            offsets[data] = start + len(body)
            body += data + bytes(-len(data) % 4)
    table = b"".join(struct.pack(">4sII", name, offsets[data], len(data)) for name, data in tags.items())
    header = bytearray(source[:_HEADER])
    header[0:4] = (start + len(body)).to_bytes(4, "big")
    header[12:20] = _DISPLAY + space
    header[84:100] = bytes(16)  # no profile ID (checksum)
    return bytes(header) + len(tags).to_bytes(4, "big") + table + bytes(body)
