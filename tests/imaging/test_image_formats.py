from __future__ import annotations

import io
import pickle
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from colorize.imaging.compose import compose
from colorize.imaging.formats import (
    ImageDecodeError,
    decode,
    decode_small,
    encode,
    output_name,
)
from colorize.imaging.formats.jpeg_luma import luma_coefficients
from tests.images import (
    LIMIT,
    PROVENANCE,
    colored,
    grey,
    opened,
    photograph,
    saved,
    smooth_ab,
)

# Refusals


def failure(encoded: bytes, max_pixels: int = LIMIT) -> ImageDecodeError:
    with pytest.raises(ImageDecodeError) as small:
        decode_small(encoded, 100, max_pixels=max_pixels)
    with pytest.raises(ImageDecodeError) as full:
        decode(encoded, max_pixels=max_pixels)
    assert (small.value.code, str(small.value)) == (full.value.code, str(full.value))
    assert "\n" not in str(full.value)
    return full.value


@pytest.mark.parametrize(
    ("encoded", "code"),
    [
        (b"", "empty"),
        (b"a plain text, no image\n" * 20, "not_an_image"),
        (bytes(1000), "not_an_image"),
        (b"%PDF-1.7\n" + bytes(100), "unsupported"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported"),
        (b"\0\0\0\x20ftypheic" + bytes(100), "unsupported"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "unreadable"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_is_not_an_image_is_refused_with_an_error_code(encoded: bytes, code: str) -> None:
    assert failure(encoded).code in (code, "truncated" if code == "unreadable" else code)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "JPEG2000", "PPM"])
def test_a_file_cut_in_half_is_truncated(format: str) -> None:
    encoded = saved(photograph(size=(200, 150)), format)
    code = failure(encoded[: len(encoded) // 2]).code
    assert code == "truncated" or (format == "TIFF" and code == "unreadable")


def test_a_jpeg_with_unreadable_coefficients_is_unreadable() -> None:
    with pytest.raises(ImageDecodeError) as error:
        luma_coefficients(saved(photograph(), "JPEG")[:40] + bytes(40))
    assert error.value.code == "unreadable"


def test_float_samples_are_unsupported() -> None:
    error = failure(saved(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"))
    assert error.code == "unsupported"
    assert "16 bits" in str(error)


def test_too_many_pixels_are_refused_from_the_header() -> None:
    header = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\0\0\0\0"
    bomb = header + checksum(header[12:]) + b"\0\0\0\x04IDAT" + bytes(8)
    error = failure(bomb)
    assert error.code == "too_large"
    assert all(word in str(error) for word in ("60000 x 60000", "3,600,000,000", "100,000,000", "limits.max_pixels"))


def checksum(chunk: bytes) -> bytes:
    return zlib.crc32(chunk).to_bytes(4, "big")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "BMP"])
def test_pillow_global_pixel_limit_is_ignored(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(photograph(), format)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    decode_small(source, 100, max_pixels=LIMIT)
    image = decode(source, max_pixels=LIMIT)
    assert encode(image, compose(image, smooth_ab()), PROVENANCE)
    assert failure(source, max_pixels=2000).code == "too_large"


def test_no_warning_leaks() -> None:
    palette = photograph("P")
    source = saved(palette, "PNG", transparency=bytes(range(200)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode_small(source, 100, max_pixels=LIMIT)
        decode(source, max_pixels=LIMIT)


def test_errors_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(ImageDecodeError("truncated", "it ends early")))
    assert (error.code, str(error)) == ("truncated", "it ends early")


def test_frames_are_counted() -> None:
    frames = [photograph(), ImageOps.invert(photograph())]
    for format in ("GIF", "TIFF", "WEBP"):
        source = saved(frames[0], format, save_all=True, append_images=frames[1:])
        image, out = colored(source)
        assert image.info.frames == 2
        assert np.array_equal(grey(opened(out)), grey(Image.open(io.BytesIO(source))))


# Names


@pytest.mark.parametrize(
    ("name", "format", "expected"),
    [
        ("a/b.jpg", "JPEG", "a/b.jpg"),
        ("A.JPEG", "JPEG", "A.JPEG"),
        ("a.mpo", "MPO", "a.mpo"),
        ("a.png", "JPEG", "a.png"),  # the suffix is not corrected
        ("scan", "TIFF", "scan"),
        ("a.gif", "GIF", "a.gif.png"),  # `a.png` may lie beside it
        ("a.PGM", "PPM", "a.PGM.png"),
        ("a.png", "GIF", "a.png"),
        ("scan", "PPM", "scan.png"),
        ("1931.05/.hidden, ca. 1900", "TGA", "1931.05/.hidden, ca. 1900.png"),
    ],
)
def test_names_are_kept_unless_the_suffix_must_change(name: str, format: str, expected: str) -> None:
    assert output_name(name, format) == expected
