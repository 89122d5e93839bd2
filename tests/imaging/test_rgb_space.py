"""Color under other RGB profiles: a scan looks the same under any profile, and its luma is unchanged."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from colorize.imaging.color import lightness_to_grey
from colorize.imaging.compose import compose
from colorize.imaging.formats import decode, encode
from colorize.imaging.rgb_space import rgb_space
from tests.images import LIMIT, PROVENANCE, photograph, saved
from tests.imaging.test_icc import SRGB, grey_profile

D50 = (0.9642, 1.0, 0.8249)
# Primaries and white as chromaticities, and the curve's exponent; colorants are derived below.
SPACES: dict[str, tuple[list[tuple[float, float]], tuple[float, float], float]] = {
    "Adobe RGB": ([(0.64, 0.33), (0.21, 0.71), (0.15, 0.06)], (0.3127, 0.3290), 563 / 256),
    "ProPhoto RGB": ([(0.734699, 0.265301), (0.159597, 0.840403), (0.036598, 0.000105)], (0.345704, 0.358540), 1.8),
    "Display P3": ([(0.680, 0.320), (0.265, 0.690), (0.150, 0.060)], (0.3127, 0.3290), 2.2),
}
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def rgb_profile(name: str, curve: bytes | None = None) -> bytes:
    """A display profile of ICC version 2."""
    primaries, (x, y), gamma = SPACES[name]
    columns = np.array([[px / py, 1, (1 - px - py) / py] for px, py in primaries]).T
    source = np.array([x / y, 1, (1 - x - y) / y])
    own = columns * np.linalg.solve(columns, source)
    scale = np.diag((BRADFORD @ D50) / (BRADFORD @ source))
    colorants = (np.linalg.inv(BRADFORD) @ scale @ BRADFORD @ own).T
    curve = curve or b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78)
    tags = {b"desc": text, b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz(D50)}
    tags |= {tag: _xyz(values) for tag, values in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    body, table = b"", struct.pack(">I", len(tags))
    for tag, data in tags.items():
        table += struct.pack(">4sII", tag, 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = bytearray(128)
    header[0:4], header[8:12] = struct.pack(">I", 132 + 12 * len(tags) + len(body)), b"\x02\x10\0\0"
    header[12:24], header[36:40] = b"mntrRGB XYZ ", b"acsp"
    header[68:80] = _xyz(D50)[8:]
    return bytes(header) + table + body


def _xyz(values: object) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(v) * 65536) for v in np.asarray(values)))


def shown(encoded: bytes) -> np.ndarray:
    """Lab (H, W, 3) as a color management library shows the file."""
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    profile = ImageCms.ImageCmsProfile(io.BytesIO(Image.open(io.BytesIO(encoded)).info.get("icc_profile") or SRGB))
    transform = ImageCms.buildTransform(profile, ImageCms.createProfile("LAB"), "RGB", "LAB")
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    lightness, a, b = (np.asarray(converted.getchannel(i)).astype(float) for i in range(3))
    return np.stack([lightness / 2.55, a - 128, b - 128], axis=-1)


def scan(profile: bytes, mode: str = "RGB") -> Image.Image:
    """One scan, with its greys encoded by the profile's curve."""
    grey = photograph().convert("L").resize((96, 64)).convert("RGB")
    transform = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile)), "RGB", "RGB"
    )
    converted = ImageCms.applyTransform(grey, transform)
    assert converted is not None
    return converted.convert(mode)


def colored(encoded: bytes, ab: np.ndarray) -> bytes:
    image = decode(encoded, max_pixels=LIMIT)
    return encode(image, compose(image, ab, "4:4:4"), PROVENANCE)


def strength(lab: np.ndarray) -> float:
    return float(np.hypot(lab[..., 1], lab[..., 2]).mean())


AB = np.stack([np.linspace(-14, 18, 12).reshape(3, 4), np.linspace(16, -16, 12).reshape(3, 4)]).astype(np.float32)


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.parametrize("name", SPACES)
def test_a_scan_looks_the_same_whatever_profile_it_carries(name: str, format: str) -> None:
    options = {"quality": 98, "subsampling": 0} if format == "JPEG" else {}
    profile = rgb_profile(name)
    plain = colored(saved(scan(SRGB), format, icc_profile=SRGB, **options), AB)
    wide = colored(saved(scan(profile), format, icc_profile=profile, **options), AB)
    expected, found = shown(plain), shown(wide)

    assert strength(found) == pytest.approx(strength(expected), rel=0.03)
    assert np.hypot(*(found - expected)[..., 1:].transpose(2, 0, 1)).mean() < 2.5
    assert np.abs((found - expected)[..., 0]).mean() < 1.5


@pytest.mark.parametrize("name", SPACES)
def test_luma_stays_exact_under_any_profile(name: str) -> None:
    source = saved(scan(rgb_profile(name), "L"), "PNG", icc_profile=grey_profile(1.8))
    under = saved(scan(rgb_profile(name), "L").convert("RGB"), "PNG", icc_profile=rgb_profile(name))
    for data in (source, under):
        before = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
        after = np.asarray(Image.open(io.BytesIO(colored(data, 2 * AB))).convert("L"))
        assert np.array_equal(before, after)


def test_profiles_other_than_matrix_and_curves_are_treated_as_srgb() -> None:
    falling = b"curv\0\0\0\0" + struct.pack(">I3H", 3, 65535, 30000, 0)
    damaged = rgb_profile("Adobe RGB")[:300]
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile in (None, b"", b"no profile", SRGB, lab, damaged, rgb_profile("Adobe RGB", falling)):
        assert rgb_space(profile) is None


@pytest.mark.parametrize(
    "curve",
    [
        b"curv\0\0\0\0" + struct.pack(">I", 0),
        b"curv\0\0\0\0" + struct.pack(">I5H", 5, 0, 9000, 22000, 41000, 65535),
        b"para\0\0\0\0" + struct.pack(">HHi", 0, 0, round(2.0 * 65536)),
        b"para\0\0\0\0" + struct.pack(">HH5i", 3, 0, *(round(v * 65536) for v in (2.2, 0.9, 0.1, 0.2, 0.05))),
    ],
    ids=["linear", "table", "power", "power and line"],
)
def test_curves_match_a_color_management_library(curve: bytes) -> None:
    profile = rgb_profile("Adobe RGB", curve)
    space = rgb_space(profile)
    assert space is not None
    ramp = np.arange(0, 256, 5).astype(np.uint8)
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), "RGB", "RGB"
    )
    converted = ImageCms.applyTransform(Image.fromarray(np.repeat(ramp[None, :, None], 3, 2)), transform)
    assert converted is not None
    expected = np.asarray(converted)[0, :, 1].astype(int)
    lightness = 116 * space.lightness((ramp / 255).astype(np.float32)) - 16
    found = 255 * lightness_to_grey(torch.from_numpy(lightness)).numpy()
    assert np.abs(found - expected).max() <= 2


def test_without_a_profile_nothing_changes() -> None:
    plain, under = saved(scan(SRGB), "PNG"), saved(scan(SRGB), "PNG", icc_profile=SRGB)
    first, second = (compose(decode(data, max_pixels=LIMIT), AB) for data in (plain, under))
    assert np.array_equal(np.asarray(first), np.asarray(second))
