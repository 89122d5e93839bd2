"""Grey profiles and their RGB equivalents give the same colors in a color management library."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from colorize.imaging.formats.icc import for_grey, for_rgb
from tests.images import colored, opened, photograph, saved

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def grey_profile(gamma: float = 1.8, space: bytes = b"XYZ ", device: bytes = b"prtr") -> bytes:
    """A grey profile of ICC version 2 with a power curve."""
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"grey\0" + bytes(78)
    tags = {
        b"desc": text,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061),
        b"kTRC": b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)),
    }
    body, table = b"", struct.pack(">I", len(tags))
    for name, data in tags.items():
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = bytearray(128)
    header[0:4], header[8:12] = struct.pack(">I", 132 + 12 * len(tags) + len(body)), b"\x02\x10\0\0"
    header[12:24], header[36:40] = device + b"GRAY" + space, b"acsp"
    header[68:80] = struct.pack(">3i", 63190, 65536, 54061)
    return bytes(header) + table + body


def lab(image: Image.Image, profile: bytes) -> np.ndarray:
    """The colors of an image under its profile, as 8-bit Lab."""
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("LAB"), image.mode, "LAB"
    )
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    return np.asarray(converted.getchannel("L")).astype(int)


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
def test_the_rgb_equivalent_gives_every_grey_its_lightness(gamma: float) -> None:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    profile = grey_profile(gamma)
    equivalent = for_rgb(profile)
    assert equivalent is not None
    assert equivalent[12:20] == b"mntrRGB "
    assert np.abs(lab(ramp, profile) - lab(ramp.convert("RGB"), equivalent)).max() <= 1


def test_the_grey_equivalent_of_an_rgb_profile_gives_every_grey_its_lightness() -> None:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    equivalent = for_grey(SRGB)
    assert equivalent is not None
    assert np.abs(lab(ramp, equivalent) - lab(ramp.convert("RGB"), SRGB)).max() <= 1


def test_converting_a_curve_twice_is_the_identity() -> None:
    there = for_rgb(grey_profile())
    back = for_grey(there)
    assert back is not None
    assert back[128:] == grey_profile()[128:]


def test_a_matching_profile_is_unchanged() -> None:
    assert for_rgb(SRGB) == SRGB
    assert for_grey(grey_profile()) == grey_profile()


@pytest.mark.parametrize(
    "profile",
    [
        None,
        b"",
        b"junk",
        bytes(200),
        grey_profile()[:140],
        grey_profile(space=b"Lab "),
        SRGB[:16] + b"CMYK" + SRGB[20:],
    ],
    ids=["none", "empty", "junk", "zeros", "cut off", "Lab", "CMYK"],
)
def test_a_profile_without_an_equivalent_is_dropped(profile: bytes | None) -> None:
    assert for_rgb(profile) is None


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_colored_copy_never_has_a_grey_profile(format: str) -> None:
    _, out = colored(saved(photograph("L"), format, icc_profile=grey_profile()))
    assert opened(out).info["icc_profile"] == for_rgb(grey_profile())


def test_a_profile_of_many_segments_is_preserved() -> None:
    large = bytearray(SRGB + bytes(200_000))
    large[0:4] = len(large).to_bytes(4, "big")
    _, out = colored(saved(photograph("RGB"), "JPEG", icc_profile=bytes(large)))
    assert opened(out).info["icc_profile"] == bytes(large)
