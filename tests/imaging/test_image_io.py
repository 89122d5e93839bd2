from __future__ import annotations

import io
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from colorize.imaging.formats import (
    ImageDecodeError,
    decode,
    decode_small,
    read_info,
)
from colorize.imaging.formats.jpeg_luma import luma_coefficients
from tests.images import (
    LIMIT,
    LOSSLESS,
    astronaut,
    colored,
    grey,
    is_colored,
    opened,
    photograph,
    saved,
)

# Lossless formats: the output converted to grey is the input converted to grey.


@pytest.mark.parametrize(
    ("format", "mode"),
    [
        *((f, m) for f in LOSSLESS for m in ("L", "RGB")),
        *(("PNG", m) for m in ("1", "P", "LA", "RGBA")),
        *(("TIFF", m) for m in ("1", "P", "LA", "RGBA", "CMYK", "YCbCr")),
        ("WEBP", "RGBA"), ("JPEG2000", "LA"), ("JPEG2000", "RGBA"), ("BMP", "1"), ("BMP", "P"),
        ("GIF", "L"), ("GIF", "P"), ("PPM", "1"), ("PPM", "L"), ("PPM", "RGB"), ("TGA", "L"), ("TGA", "RGBA"),
        ("PCX", "L"), ("SGI", "RGB"), ("QOI", "RGB"),
    ],
)  # fmt: skip
def test_a_colored_copy_converted_to_grey_equals_the_source_converted_to_grey(format: str, mode: str) -> None:
    source = saved(photograph(mode), format)
    image, out = colored(source)
    assert image.luma_exact
    assert opened(out).size == opened(source).size
    assert np.array_equal(grey(opened(out)), grey(opened(source)))
    assert is_colored(opened(out)) or mode == "1"  # at black and white there is no room for color
    assert read_info(out).format == image.info.output_format


@pytest.mark.parametrize("format", [*LOSSLESS, "JPEG", "GIF"])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (17, 9)])
def test_any_size_is_preserved(format: str, size: tuple[int, int]) -> None:
    source = saved(photograph(size=size), format)
    small = decode_small(source, 64, max_pixels=LIMIT)
    _, out = colored(source)
    assert opened(out).size == size
    assert min(small.luma.shape) >= 1


@pytest.mark.parametrize(
    ("compression", "expected"),
    [("raw", "raw"), ("tiff_lzw", "tiff_lzw"), ("packbits", "packbits"), ("zstd", "zstd"),
     ("tiff_adobe_deflate", "tiff_adobe_deflate"), ("tiff_deflate", "tiff_adobe_deflate"),
     ("jpeg", "tiff_adobe_deflate")],  # lossy: the copy keeps the decoded luma
)  # fmt: skip
def test_tiffs_keep_their_compression(compression: str, expected: str) -> None:
    source = saved(photograph(size=(200, 300)), "TIFF", compression=compression)
    written = opened(colored(source)[1])
    assert written.info["compression"] == expected
    assert np.array_equal(grey(written), grey(opened(source)))


@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG2000", "TIFF"])
def test_transparency_is_kept(format: str) -> None:
    image = photograph("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    _, out = colored(saved(image, format))
    assert opened(out).mode == "RGBA"
    assert opened(out).getchannel("A").tobytes() == image.getchannel("A").tobytes()


def test_a_transparent_color_becomes_alpha() -> None:
    image = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8), (8, 1)))
    _, out = colored(saved(image, "PNG", transparency=10))
    assert np.array_equal(np.asarray(opened(out).getchannel("A"))[0] == 0, np.arange(64) == 10)


# 16 bits


def sixteen(*shape: int) -> NDArray[np.uint16]:
    return np.random.default_rng(5).integers(0, 65536, shape, np.uint16)


def grey16(rgb: NDArray[np.uint16]) -> NDArray[np.uint16]:
    luma = rgb[..., :3] @ np.array([0.299, 0.587, 0.114])
    return np.asarray(np.rint(luma), np.uint16)


def decoded16(encoded: bytes, format: str) -> NDArray[np.uint16]:
    decoders = {"PNG": imagecodecs.png_decode, "TIFF": imagecodecs.tiff_decode, "JPEG2000": imagecodecs.jpeg2k_decode}
    pixels = decoders[format](encoded)
    assert pixels.dtype == np.uint16
    return np.asarray(pixels, np.uint16)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG2000"])
def test_16_bit_grey_keeps_every_level(format: str) -> None:
    samples = sixteen(33, 21)
    image, out = colored(saved(Image.fromarray(samples), format))
    assert (image.info.bits, image.info.mode) == (16, "I;16")
    assert np.array_equal(grey16(decoded16(out, format)), samples)
    assert is_colored(opened(out))


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_png_color_and_alpha_keep_every_level(channels: int) -> None:
    samples = sixteen(33, 21, channels)
    image, out = colored(bytes(imagecodecs.png_encode(samples)))
    pixels = decoded16(out, "PNG")
    assert image.info.bits == 16
    assert np.array_equal(grey16(pixels), samples[..., 0] if channels == 2 else grey16(samples))
    if channels in (2, 4):
        assert np.array_equal(pixels[..., 3], samples[..., -1])


@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG2000"])
def test_a_colored_16_bit_copy_can_be_colored_again(format: str) -> None:
    samples = sixteen(20, 30)
    _, once = colored(saved(Image.fromarray(samples), format))
    image, twice = colored(once)
    assert image.info.mode == "RGB;16"
    assert np.array_equal(grey16(decoded16(twice, format)), samples)


def test_big_endian_tiffs_stay_big_endian() -> None:
    samples = sixteen(5, 7)
    source = b"MM\0*\0\0\0\x08" + big_endian_directory(7, 5) + samples.astype(">u2").tobytes()
    _, out = colored(source)
    assert out.startswith(b"MM")
    assert np.array_equal(grey16(decoded16(out, "TIFF")), samples)


def big_endian_directory(width: int, height: int) -> bytes:
    tags = ((256, width), (257, height), (258, 16), (259, 1), (262, 1), (273, 8 + 2 + 9 * 12 + 4), (277, 1),
            (278, height), (279, width * height * 2))  # fmt: skip
    entries = (np.array([tag, 4, 0, 1, 0, value], ">u2").tobytes() for tag, value in tags)
    return len(tags).to_bytes(2, "big") + b"".join(entries) + bytes(4)


def test_16_bit_pgm_is_written_as_16_bit_png() -> None:
    samples = sixteen(4, 6)
    image, out = colored(b"P5 6 4 65535\n" + samples.astype(">u2").tobytes())
    assert np.array_equal(image.luma, samples)
    assert np.array_equal(grey16(decoded16(out, "PNG")), samples)


@pytest.mark.parametrize("white", [65535, 4095, 256])
def test_16_bit_ppm_keeps_every_level(white: int) -> None:
    samples = (sixteen(4, 6, 3).astype(int) * white // 65535).astype(np.uint16)
    image, out = colored(b"P6 6 4 %d\n" % white + samples.astype(">u2").tobytes())
    full = np.rint(samples * (65535 / white)).astype(np.uint16)
    assert (image.info.bits, image.info.mode, image.luma_exact) == (16, "RGB;16", True)
    assert np.array_equal(image.luma, grey16(full))
    assert np.array_equal(grey16(decoded16(out, "PNG")), image.luma)


@pytest.mark.parametrize(
    ("encoded", "code"), [(b"P6 6 4 65535\n" + bytes(100), "truncated"), (b"P3 1 1 65535\n1 2 3\n", "unsupported")]
)
def test_an_unreadable_16_bit_ppm_has_an_error_code(encoded: bytes, code: str) -> None:
    with pytest.raises(ImageDecodeError) as error:
        decode(encoded, max_pixels=LIMIT)
    assert error.value.code == code


def test_the_small_copy_of_16_bits_is_the_upper_byte() -> None:
    samples = sixteen(9, 9)
    small = decode_small(saved(Image.fromarray(samples), "PNG"), 10**6, max_pixels=LIMIT)
    assert np.array_equal(small.luma, samples >> 8)


# JPEG


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(
    "options",
    [
        {"quality": 100}, {"quality": 75}, {"quality": 5}, {"progressive": True}, {"optimize": True},
        {"subsampling": "4:4:4"}, {"subsampling": "4:2:2"}, {"restart_marker_blocks": 3},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("size", [(61, 47), (64, 32), (9, 70)])
def test_jpeg_luma_coefficients_are_copied(mode: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    source = saved(photograph(mode, size), "JPEG", **options)
    image, out = colored(source)
    across, down = -(-size[0] // 8), -(-size[1] // 8)
    assert image.luma_exact
    assert np.array_equal(luma_coefficients(out)[:down, :across], luma_coefficients(source)[:down, :across])
    assert np.array_equal(decode(out, max_pixels=LIMIT).luma, image.luma)
    assert opened(out).size == size
    assert is_colored(opened(out))


def test_jpeg_tables_are_copied() -> None:
    source = opened(saved(photograph("RGB"), "JPEG", quality=83))
    out = opened(colored(saved(photograph("RGB"), "JPEG", quality=83))[1])
    assert out.quantization == source.quantization  # type: ignore[attr-defined]


def test_a_grey_jpeg_gets_the_standard_chroma_table_of_its_quality() -> None:
    expected = opened(saved(photograph("RGB"), "JPEG", quality=60)).quantization[1]  # type: ignore[attr-defined]
    out = opened(colored(saved(photograph("L"), "JPEG", quality=60))[1])
    assert np.abs(np.array(out.quantization[1]) - expected).max() <= 1  # type: ignore[attr-defined]


def test_a_cmyk_jpeg_is_colored_and_not_marked_exact() -> None:
    source = saved(photograph("CMYK"), "JPEG", quality=95)
    image, out = colored(source)
    assert not image.luma_exact
    assert opened(out).mode == "RGB"
    assert np.abs(grey(opened(out)).astype(int) - grey(opened(source))).mean() < 3


def test_an_rgb_coded_jpeg_is_not_marked_exact() -> None:
    image, out = colored(saved(photograph("RGB"), "JPEG", keep_rgb=True))
    assert not image.luma_exact
    assert opened(out).mode == "RGB"


def test_a_multi_image_jpeg_keeps_its_first_image() -> None:
    source = saved(photograph(), "MPO", save_all=True, append_images=[photograph()])
    image, out = colored(source)
    assert (image.info.format, image.info.frames) == ("MPO", 2)
    assert opened(out).format == "JPEG"


# The small copy


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("size", [(1000, 700), (3000, 120), (300, 200)])
def test_the_small_copy_has_about_the_requested_area(format: str, size: tuple[int, int]) -> None:
    small = decode_small(saved(photograph(size=size), format), 10_000, max_pixels=LIMIT)
    assert 10_000 <= small.luma.size <= 4 * 10_000
    assert small.luma.shape[1] / small.luma.shape[0] == pytest.approx(size[0] / size[1], rel=0.08)


def test_the_small_copy_is_never_enlarged() -> None:
    assert decode_small(saved(photograph(), "PNG"), 10**6, max_pixels=LIMIT).luma.shape == (47, 61)


def test_colorfulness_separates_color_from_grey_and_toned() -> None:
    def measured(image: Image.Image) -> float:
        return decode_small(saved(image, "JPEG", quality=85), 40_000, max_pixels=LIMIT).colorfulness

    photo = astronaut()
    grey_photo = photo.convert("L")
    sepia = ImageOps.colorize(grey_photo, (40, 20, 5), (255, 240, 200), mid=(140, 100, 70))
    assert measured(grey_photo) == 0
    assert measured(grey_photo.convert("RGB")) < 1
    assert measured(sepia) < 3
    assert measured(photo) > 20


# Damage


def damaged(encoded: bytes, seed: int) -> bytes:
    """A few random bytes replaced, or the end cut off."""
    rng = np.random.default_rng(seed)
    if seed % 4 == 0:
        return encoded[: rng.integers(1, len(encoded))]
    changed = bytearray(encoded)
    for position in rng.integers(0, len(encoded), rng.integers(1, 9)):
        changed[position] = rng.integers(0, 256)
    return bytes(changed)


@pytest.mark.parametrize("format", [*LOSSLESS, "JPEG", "GIF", "PPM", "TGA", "PCX", "QOI", "SGI"])
@pytest.mark.filterwarnings("ignore")  # of Pillow reading the damaged file, for its size
def test_a_damaged_file_gives_an_image_or_an_error_code(format: str) -> None:
    intact = saved(photograph("RGB" if format == "QOI" else "L", (40, 30)), format)
    for seed in range(40):
        encoded = damaged(intact, seed)
        try:
            small = decode_small(encoded, 100, max_pixels=10**6)
            image, out = colored(encoded)
        except ImageDecodeError as error:
            assert error.code
            continue
        assert small.info == image.info
        assert opened(out).size == Image.open(io.BytesIO(encoded)).size
