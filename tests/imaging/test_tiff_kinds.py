"""TIFF variants found in archives: every sample layout is read, and nothing is misread."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from colorize.imaging.formats import ImageDecodeError, decode, decode_small, decode_small_pages, encode_grey
from colorize.predict.render import render
from tests.every_kind import samples
from tests.images import LIMIT, PROVENANCE, colored, photograph, saved, smooth_ab

Array = NDArray[Any]
SIZE = (64, 48)


def tiff(pixels: Array, **options: Any) -> bytes:
    out = io.BytesIO()
    file = {key: options.pop(key) for key in ("byteorder", "bigtiff") if key in options}
    with tifffile.TiffWriter(out, **file) as writer:
        writer.write(pixels, metadata=None, **options)
    return out.getvalue()


def stored(encoded: bytes) -> Array:
    return np.asarray(tifffile.imread(io.BytesIO(encoded)))


def luma(rgb: Array) -> Array:
    if rgb.dtype == np.uint8:
        return np.asarray(Image.fromarray(np.ascontiguousarray(rgb[..., :3])).convert("L"))
    return np.asarray(np.rint(0.299 * rgb[..., 0] + 0.587 * rgb[..., 1] + 0.114 * rgb[..., 2]), np.uint16)


def packed(levels: Array, bits: int) -> bytes:
    """Samples of `bits` bits, the highest bit first, rows padded to bytes, as a grey TIFF."""
    shifts = np.arange(bits - 1, -1, -1)
    rows = [np.packbits(((row[:, None] >> shifts) & 1).astype(np.uint8).ravel()).tobytes() for row in levels]
    return directory(b"".join(rows), levels.shape[1], levels.shape[0], {258: bits, 262: 1})


def directory(data: bytes, width: int, height: int, tags: dict[int, int], order: str = "<") -> bytes:
    """A TIFF of one strip whose tags are all LONG."""
    start = 8 + len(data) + len(data) % 2
    all_tags = {256: width, 257: height, 259: 1, 273: 8, 277: 1, 278: height, 279: len(data), **tags}
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in sorted(all_tags.items()))
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(order + "I", start) + data + bytes(len(data) % 2)
    return head + struct.pack(order + "H", len(all_tags)) + entries + bytes(4)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
@pytest.mark.parametrize("bits", [8, 16])
def test_white_is_zero_is_inverted(bits: int, order: str, compression: str | None) -> None:
    levels = samples(1, bits, SIZE)
    source = tiff(
        levels, photometric="miniswhite", byteorder=order, compression=compression, predictor=bool(compression)
    )
    image, out = colored(source)
    assert np.array_equal(image.luma, np.iinfo(levels.dtype).max - levels)
    assert np.array_equal(luma(stored(out)), image.luma)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("bits", [8, 16])
def test_grey_with_alpha(bits: int, photometric: str) -> None:
    pixels = samples(2, bits, SIZE)
    image, out = colored(tiff(pixels, photometric=photometric, extrasamples=["unassalpha"], planarconfig="contig"))
    white = np.iinfo(pixels.dtype).max
    assert np.array_equal(image.luma, pixels[..., 0] if photometric == "minisblack" else white - pixels[..., 0])
    assert image.alpha is not None
    assert np.array_equal(image.alpha, pixels[..., 1])
    assert np.array_equal(luma(stored(out)), image.luma)
    assert np.array_equal(stored(out)[..., 3], pixels[..., 1])


@pytest.mark.parametrize("channels", [3, 4])
def test_a_16_bit_copy_with_alpha_can_be_restored_and_reread(channels: int) -> None:
    pixels = samples(4, 16, SIZE)[..., :channels]
    extra = ["unassalpha"] if channels == 4 else []
    _, out = colored(tiff(pixels, photometric="rgb", extrasamples=extra))
    back = decode(encode_grey(decode(out, max_pixels=LIMIT)), max_pixels=LIMIT)
    assert np.array_equal(back.luma, luma(pixels))
    assert (back.alpha is None) == (channels == 3)


@pytest.mark.parametrize("bits", [2, 4, 6, 10, 12, 14])
def test_packed_samples(bits: int) -> None:
    levels = (samples(1, 16, SIZE) >> (16 - bits)).astype(np.uint16)
    image, out = colored(packed(levels, bits))
    if bits > 8:
        assert np.array_equal(np.asarray(image.luma) >> (16 - bits), levels)
    else:
        assert np.array_equal(image.luma, levels * 255 // (2**bits - 1))
    assert np.array_equal(luma(stored(out)), image.luma)


def jxl(pixels: Array) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(pixels, lossless=True))


def webp(pixels: Array) -> bytes:
    return bytes(imagecodecs.webp_encode(pixels, lossless=True))


def jpeg2000(pixels: Array) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat="j2k"))


CODECS: dict[str, tuple[int, Callable[[Array], bytes], tuple[int, ...]]] = {
    "JPEG 2000": (34712, jpeg2000, (1, 3)), "JPEG XL": (50002, jxl, (1, 3)), "JPEG XL by DNG": (52546, jxl, (1, 3)),
    "WebP": (50001, webp, (3,)), "LERC": (34887, lambda p: bytes(imagecodecs.lerc_encode(p)), (1, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", CODECS)
def test_other_formats_within_a_tiff(name: str) -> None:
    compression, encode, channels = CODECS[name]
    for count in channels:
        for bits in (8, 16) if name not in ("WebP",) else (8,):
            pixels = samples(count, bits, SIZE)
            data = encode(pixels)
            kind = {258: bits, 259: compression, 262: 2 if count == 3 else 1, 277: count}
            source = directory(data, *SIZE, kind)
            image, out = colored(source)
            assert np.array_equal(image.luma, pixels if count == 1 else luma(pixels)), (name, count, bits)
            assert np.array_equal(luma(stored(out)), image.luma), (name, count, bits)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_old_style_jpeg(mode: str) -> None:
    data = saved(photograph(mode, SIZE), "JPEG", quality=95, subsampling="4:4:4")
    count = len(mode)
    tags = {258: 8, 259: 6, 262: 6 if count == 3 else 1, 277: count, 512: 1, 513: 8, 514: len(data)}
    image, out = colored(directory(data, *SIZE, tags))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB").convert("L"), int)
    assert np.abs(np.asarray(image.luma, int) - expected).max() <= 2
    assert np.array_equal(luma(stored(out)), image.luma)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("alpha", [False, True])
def test_cmyk_keeps_its_bit_depth(bits: int, alpha: bool) -> None:
    inks = np.concatenate((samples(4, bits, SIZE), samples(2, bits, SIZE)[..., 1:]), axis=-1)[..., : 5 if alpha else 4]
    extra = ["unassalpha"] if alpha else []
    image, out = colored(tiff(inks, photometric="separated", extrasamples=extra))
    white = 2**bits - 1
    light = white - inks.astype(float)
    expected = np.rint(light[..., :3] * light[..., 3:4] / white).astype(inks.dtype)
    assert np.abs(np.asarray(image.luma, int) - luma(expected)).max() <= 1
    assert image.info.bits == bits
    assert np.array_equal(luma(stored(out)), image.luma)
    assert stored(out).shape[2] == (4 if alpha else 3)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", ["cielab", "icclab"])
def test_lab_is_converted_to_srgb(bits: int, photometric: str) -> None:
    grey = np.linspace(0, 1, 64 * 48).reshape(48, 64)
    top = {"cielab": 2**bits - 1, "icclab": 255 if bits == 8 else 0xFF00}[photometric]
    neutral = 0 if photometric == "cielab" else 1 << (bits - 1)
    lab = np.stack([np.rint(grey * top), *[np.full_like(grey, neutral)] * 2], axis=-1).astype(f"u{bits // 8}")
    image, out = colored(tiff(lab, photometric=photometric))
    linear = np.where(grey > 0.08, ((100 * grey + 16) / 116) ** 3, 100 * grey / 903.3)
    expected = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear) * (2**bits - 1)
    assert np.abs(np.asarray(image.luma, float) - expected).max() <= 0.01 * 2**bits
    assert np.array_equal(luma(stored(out)), image.luma)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("said", ["unspecified", None])
def test_an_extra_sample_other_than_alpha_is_kept(bits: int, channels: int, said: str | None) -> None:
    pixels = np.dstack((samples(channels, bits, SIZE), samples(1, bits, (SIZE[0], SIZE[1]))[::-1]))
    kind = "rgb" if channels == 3 else "minisblack"
    source = tiff(pixels, photometric=kind, extrasamples=["unspecified"], planarconfig="contig")
    if said is None:
        source = source.replace(struct.pack("<HH", 338, 3), struct.pack("<HH", 65000, 3))
    image, out = colored(source)
    assert image.alpha is None
    assert np.array_equal(image.luma, luma(pixels) if channels == 3 else pixels[..., 0])
    with tifffile.TiffFile(io.BytesIO(out)) as file:
        assert file.pages[0].extrasamples == ((0,) if said else ())  # type: ignore[union-attr]
    assert np.array_equal(stored(out)[..., 3], pixels[..., -1])
    assert np.array_equal(luma(stored(out)), image.luma)
    restored = stored(encode_grey(decode(out, max_pixels=LIMIT)))
    assert np.array_equal(restored[..., 1], pixels[..., -1])


def test_alpha_among_other_channels() -> None:
    pixels = np.dstack((samples(4, 8, SIZE), samples(1, 8, SIZE), samples(1, 8, SIZE)[::-1]))
    source = tiff(pixels, photometric="rgb", extrasamples=["unspecified", "unassalpha", "unspecified"])
    image, out = colored(source)
    assert image.alpha is not None
    assert np.array_equal(image.alpha, pixels[..., 4])
    assert np.array_equal(stored(out)[..., 3:], pixels[..., [4, 3, 5]])


# Which directory is the image


def two(first: Array, second: Array, **options: Any) -> bytes:
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        writer.write(first, metadata=None, **options)
        writer.write(second, metadata=None)
    return out.getvalue()


def resized(pixels: Array, size: tuple[int, int]) -> Array:
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


@pytest.mark.parametrize("flag", [1, 0], ids=["said so", "not said"])
def test_a_reduced_resolution_copy_is_not_a_page(flag: int) -> None:
    full = np.asarray(photograph("L", (240, 180)))
    reduced = resized(full, (60, 45))
    for first, second, options in ((reduced, full, {"subfiletype": flag}), (full, reduced, {})):
        source = two(first, second, **options)
        image, out = colored(source)
        assert (image.info.width, image.info.height, image.info.frames) == (240, 180, 1)
        assert np.array_equal(luma(stored(out)), full)


def test_a_small_page_with_other_content_is_a_page() -> None:
    full = np.asarray(photograph("L", (240, 180)))
    other = resized(full, (60, 45))[::-1]
    assert decode(two(other, full), max_pixels=LIMIT).info.frames == 2


def test_a_single_page_tagged_reduced_is_the_image() -> None:
    pixels = samples(1, 8, SIZE)
    assert np.array_equal(decode(tiff(pixels, subfiletype=1), max_pixels=LIMIT).luma, pixels)


CFA, LINEAR = 32803, 34892


def with_sensor_data(photometric: int, extratags: list[Any] | None = None) -> bytes:
    """A preview with the sensor's data below it, as cameras store them."""
    out = io.BytesIO()
    thumbnail = np.asarray(photograph("RGB", (64, 48)))
    with tifffile.TiffWriter(out) as writer:
        writer.write(thumbnail, photometric="rgb", subfiletype=1, subifds=1, metadata=None, extratags=extratags or [])
        sensor = samples(3 if photometric == LINEAR else 1, 16, (240, 180))
        writer.write(sensor, photometric=photometric, metadata=None)
    return out.getvalue()


RAW = {
    "NEF": with_sensor_data(CFA, [(271, "s", 0, "NIKON CORPORATION", True)]),
    "ARW": with_sensor_data(CFA, [(271, "s", 0, "SONY", True)]),
    "DNG": with_sensor_data(LINEAR, [(50706, "B", 4, b"\x01\x04\0\0", True)]),
    "scanner's NEF": with_sensor_data(1, [(271, "s", 0, "Nikon", True)]),
    "DNG without a preview": tiff(samples(1, 16, SIZE), extratags=[(50706, "B", 4, b"\x01\x04\0\0", True)]),
    "PEF": tiff(samples(1, 16, SIZE), photometric=CFA),
    "CR2": b"II*\0\x10\0\0\0CR\x02\0\0\0\0\0" + bytes(100),
    "IIQ": b"II*\0\x08\0\1\0IIIITwaR" + bytes(100),
    "RW2": b"IIU\0\x18\0\0\0" + bytes(100),
    "ORF": b"IIRO\x08\0\0\0" + bytes(100),
    "RAF": b"FUJIFILMCCD-RAW 0201" + bytes(100),
    "CR3": b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom" + bytes(100),
}


@pytest.mark.parametrize("name", RAW)
def test_camera_raw_is_refused_with_a_remedy(name: str) -> None:
    for read in (lambda: decode(RAW[name], max_pixels=LIMIT), lambda: decode_small(RAW[name], 64, max_pixels=LIMIT)):
        with pytest.raises(ImageDecodeError) as caught:
            read()
        assert caught.value.code == "unsupported"
        assert "export 16-bit TIFFs" in str(caught.value)


@pytest.mark.parametrize("pixels", [b"CR\2\0", b"IIIITwaQ", b"MMMM", b"CR"])
def test_pixels_that_look_like_a_raw_signature_are_pixels(pixels: bytes) -> None:
    source = directory(pixels.ljust(48 * 64, b"\x80"), *SIZE, {258: 8, 262: 1})
    assert source[8 : 8 + len(pixels)] == pixels
    assert np.asarray(decode(source, max_pixels=LIMIT).luma).tobytes().startswith(pixels)


def test_a_cyclic_directory_chain_ends() -> None:
    source = bytearray(tiff(samples(1, 8, SIZE)))
    (first,) = struct.unpack_from("<I", source, 4)
    (count,) = struct.unpack_from("<H", source, first)
    struct.pack_into("<I", source, first + 2 + 12 * count, first)
    assert decode(bytes(source), max_pixels=LIMIT).info.frames == 1


def test_a_page_of_another_kind_is_copied() -> None:
    out = io.BytesIO()
    depth = np.random.default_rng(1).normal(size=(20, 30)).astype(np.float32)
    with tifffile.TiffWriter(out) as writer:
        for pixels in (samples(1, 8, SIZE), depth, samples(1, 8, SIZE)[::-1]):
            writer.write(pixels, photometric="minisblack", metadata=None)
    assert list(decode_small_pages(out.getvalue(), 64, max_pixels=LIMIT)) == [0, 2]
    made = render(out.getvalue(), {0: smooth_ab(), 2: smooth_ab()}, PROVENANCE, max_pixels=LIMIT)
    with tifffile.TiffFile(io.BytesIO(made.data)) as file:
        assert [page.shape for page in file.pages] == [(48, 64, 3), (20, 30), (48, 64, 3)]
        assert np.array_equal(file.pages[1].asarray(), depth)


def test_other_ink_sets_are_refused() -> None:
    inks = tiff(samples(4, 8, SIZE), photometric="separated", extratags=[(332, 3, 1, 2, True)])
    with pytest.raises(ImageDecodeError, match="inks") as caught:
        decode(inks, max_pixels=LIMIT)
    assert caught.value.code == "unsupported"


@pytest.mark.parametrize(
    "tags", [{279: 0}, {279: 10**6}, {278: 1}, {322: 64, 323: 0}, {322: 16, 323: 16, 324: 8, 325: 9}]
)
def test_a_missing_strip_or_tile_is_not_read_as_black(tags: dict[int, int]) -> None:
    """In a layout that libtiff decodes, which continues after errors."""
    ycbcr = {258: 8, 262: 6, 277: 3, 530: 0x00020002}
    with pytest.raises(ImageDecodeError) as failed:
        decode(directory(bytes(64 * 48 * 3 // 2), 64, 48, ycbcr | tags), max_pixels=LIMIT)
    assert failed.value.code == "truncated"
