"""Everything marked `luma_exact` is exact according to independent decoders, and nearly everything is marked.

JPEG: `jpegtran`. Lossless formats: tifffile and imagecodecs read the copy, Pillow (8 bits) and those two (16 bits)
the source.
"""

from __future__ import annotations

import io
import subprocess
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from colorize.imaging.compose import compose
from colorize.imaging.formats import DecodedImage, ImageDecodeError, decode, encode
from colorize.imaging.formats.orientation import unorient
from tests.conftest import filtered, jpegtran
from tests.every_kind import Kind, images
from tests.images import PROVENANCE

DATA = Path(__file__).parents[3] / "shared" / "data"
FORMATS = ("JPEG", "PNG", "TIFF")
Array = NDArray[Any]


@pytest.mark.slow
def test_generated_images_of_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    figures = swept(images())
    report(figures, "generated", capsys)
    assert share_of_exact(figures) >= 0.95


@pytest.mark.skipif(not (DATA / "archive").is_dir(), reason="../shared/data is not beside the repository")
@pytest.mark.parametrize("folder", ["archive", "awkward"])
@pytest.mark.filterwarnings("ignore")  # the reference uses Pillow unmodified
def test_downloaded_images(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    figures = swept(found(DATA / folder))
    report(figures, folder, capsys)
    assert share_of_exact(figures) >= 0.95


def found(folder: Path) -> Iterator[Kind]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield str(path.relative_to(folder)), path.read_bytes()


def swept(kinds: Iterable[Kind]) -> Counter[tuple[str, bool]]:
    """Counts exact images, and those not marked so, by format; fails on a false claim."""
    figures = Counter[tuple[str, bool]]()
    for number, (name, data) in enumerate(kinds):
        try:
            image = decode(data, max_pixels=10**8)
            out = encode(image, compose(image, saturated(number)), PROVENANCE)
        except ImageDecodeError:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert not image.luma_exact or is_exact(image, data, out), name
        figures[image.info.format.replace("MPO", "JPEG"), image.luma_exact] += 1
    return figures


def saturated(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-110, 110, (2, 4, 5)).astype(np.float32)


def share_of_exact(figures: Counter[tuple[str, bool]]) -> float:
    """Of the JPEG, PNG and TIFF images together."""
    exact, others = (sum(figures[format, kind] for format in FORMATS) for kind in (True, False))
    return exact / (exact + others)


def report(figures: Counter[tuple[str, bool]], what: str, capsys: pytest.CaptureFixture[str]) -> None:
    formats = sorted({format for format, _ in figures})
    shares = (f"{f} {figures[f, True]} of {figures[f, True] + figures[f, False]}" for f in formats)
    with capsys.disabled():
        print(f"\nluma exact, {what}: {', '.join(shares)}")


def is_exact(image: DecodedImage, source: bytes, out: bytes) -> bool:
    """Whether the copy's grey equals the source's, both read by other code than this package's."""
    if image.info.output_format == "JPEG":
        return same_luma(source, out)
    if image.info.bits == 16:
        return np.array_equal(grey16(read(out)), grey16_of_source(image, source))
    return np.array_equal(grey8(read(out)), grey8_of_source(image, source))


def same_luma(source: bytes, out: bytes) -> bool:
    """Equal coefficients, or equal decoded luma for a damaged source that `jpegtran` cannot read."""
    try:
        grey = jpegtran(source, "-grayscale", "-optimize")
    except subprocess.CalledProcessError:
        decoded = [filtered("djpeg", "libjpeg-turbo-progs", data, "-grayscale") for data in (source, out)]
        return decoded[0] == decoded[1]
    return jpegtran(out, "-grayscale", "-optimize") == grey


def read(out: bytes) -> Array:
    """The copy's samples in the file's layout, (H, W, 3 or 4)."""
    if out[:2] in (b"II", b"MM"):
        return np.asarray(tifffile.imread(io.BytesIO(out)))
    if out[:2] == b"BM":
        return np.asarray(imagecodecs.bmp_decode(out))
    decoders = {b"\x89PNG": imagecodecs.png_decode, b"RIFF": imagecodecs.webp_decode}
    return np.asarray(decoders.get(out[:4], imagecodecs.jpeg2k_decode)(out))


def grey8(rgb: Array) -> Array:
    """Pillow's formula of `convert("L")`, in integers."""
    r, g, b = (rgb[..., i].astype(np.int64) for i in range(3))
    return (19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16


def grey16(samples: Array) -> Array:
    """round(0.299 R + 0.587 G + 0.114 B), or the grey itself."""
    wide = samples.astype(np.int64).reshape(*samples.shape[:2], -1)
    if wide.shape[2] < 3:
        return wide[..., 0]
    luma: Array = np.rint(0.299 * wide[..., 0] + 0.587 * wide[..., 1] + 0.114 * wide[..., 2])
    return luma.astype(np.int64)


def grey8_of_source(image: DecodedImage, source: bytes) -> Array:
    with patch.object(PngImagePlugin, "MAX_TEXT_CHUNK", len(source) * 1100):  # text never makes pixels unreadable
        pil_image: Image.Image = Image.open(io.BytesIO(source))
        pil_image.load()
    if pil_image.mode == "LAB":  # Pillow turns it into RGB only
        pil_image = pil_image.convert("RGB")
    grey = np.asarray(pil_image.convert("L"))
    return unorient(grey, image.info.orientation) if image.info.format == "TIFF" else grey


def grey16_of_source(image: DecodedImage, source: bytes) -> Array:
    if image.info.format == "PPM":
        return np.asarray(Image.open(io.BytesIO(source))).astype(np.int64)
    if image.info.format != "TIFF":
        samples = read(source)
        return grey16(samples << bits_missing(image, source))
    with tifffile.TiffFile(io.BytesIO(source)) as file:
        page = file.pages[0]
        samples = np.asarray(page.asarray())
        if samples.ndim == 3 and samples.shape[1:] == (image.info.height, image.info.width):
            samples = np.moveaxis(samples, 0, -1)
        samples = samples.astype(np.int64) << (16 - page.bitspersample)  # type: ignore[union-attr]
        white_is_zero = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE  # type: ignore[union-attr]
        associated = page.extrasamples == (tifffile.EXTRASAMPLE.ASSOCALPHA,)  # type: ignore[union-attr]
    if associated:  # TIFF 6.0, ExtraSamples: premultiplied alpha
        color = samples[..., :3] * (65535 / np.maximum(samples[..., 3:], 1))
        return grey16(np.minimum(np.rint(color), 65535))
    return grey16(65535 - samples if white_is_zero else samples)


def bits_missing(image: DecodedImage, source: bytes) -> int:
    """The left shift of the samples of a file with 9 to 15 bits."""
    if image.info.format != "JPEG2000":
        return 0
    codestream = source.index(b"\xff\x4f\xff\x51")
    return 15 - (source[codestream + 42] & 0x7F)
