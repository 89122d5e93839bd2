from __future__ import annotations

import io
import pickle
import warnings
import zlib
from typing import Any
from xml.etree import ElementTree

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, PngImagePlugin
from skimage import data

from colorize.compose import compose
from colorize.image_io import (
    ImageDecodeError,
    Picture,
    Provenance,
    decode,
    decode_small,
    encode,
    output_name,
    read_info,
)
from colorize.jpeg_file import luma_coefficients, segments
from colorize.orientation import orient, unorient

LIMIT = 10**8
PROVENANCE = Provenance("unet", "a" * 64, "1931/K\u00f6ln & 'more' <1>.tif", "b" * 64)
LOSSLESS = ("PNG", "TIFF", "WEBP", "BMP", "JPEG2000")


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    if format == "WEBP":
        options = {"lossless": True, "exact": True, **options}
    image.save(out, format, **options)
    return out.getvalue()


def opened(encoded: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(encoded))
    image.load()
    return image


def astronaut() -> Image.Image:
    return Image.fromarray(data.astronaut())  # type: ignore[no-untyped-call]


def photograph(mode: str = "L", size: tuple[int, int] = (61, 47)) -> Image.Image:
    return astronaut().crop((60, 0, 410, 350)).resize(size).convert(mode)


def smooth_ab(seed: int = 3) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-45, 45, (2, 3, 4)).astype(np.float32)


def colored(encoded: bytes) -> tuple[Picture, bytes]:
    picture = decode(encoded, max_pixels=LIMIT)
    return picture, encode(picture, compose(picture, smooth_ab()), PROVENANCE)


def grey(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.convert("L"))


def is_colored(image: Image.Image) -> bool:
    rgb = np.asarray(image.convert("RGB")).astype(int)
    return bool(np.abs(rgb[..., 0] - rgb[..., 2]).max() > 8)


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
def test_a_colored_copy_turned_grey_is_the_source_turned_grey(format: str, mode: str) -> None:
    source = saved(photograph(mode), format)
    picture, out = colored(source)
    assert picture.luma_exact
    assert opened(out).size == opened(source).size
    assert np.array_equal(grey(opened(out)), grey(opened(source)))
    assert is_colored(opened(out)) or mode == "1"  # between black and white there is no room for color
    assert read_info(out).format == picture.info.output_format


@pytest.mark.parametrize("format", [*LOSSLESS, "JPEG", "GIF"])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (17, 9)])
def test_any_size_comes_out_at_its_own_size(format: str, size: tuple[int, int]) -> None:
    source = saved(photograph(size=size), format)
    small = decode_small(source, 64, max_pixels=LIMIT)
    _, out = colored(source)
    assert opened(out).size == size
    assert min(small.luma.shape) >= 1


@pytest.mark.parametrize(
    "options", [{"compression": c} for c in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg")], ids=str
)
def test_tiffs_are_written_compressed_where_the_source_is(options: dict[str, str]) -> None:
    source = saved(photograph(size=(200, 300)), "TIFF", **options)
    _, out = colored(source)
    written = opened(out)
    assert (written.info["compression"] == "raw") == (options["compression"] == "raw")
    assert np.array_equal(grey(written), grey(opened(source)))


@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG2000", "TIFF"])
def test_transparency_is_kept(format: str) -> None:
    image = photograph("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    _, out = colored(saved(image, format))
    assert opened(out).mode == "RGBA"
    assert opened(out).getchannel("A").tobytes() == image.getchannel("A").tobytes()


def test_a_transparent_tone_becomes_alpha() -> None:
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
    picture, out = colored(saved(Image.fromarray(samples), format))
    assert (picture.info.bits, picture.info.mode) == (16, "I;16")
    assert np.array_equal(grey16(decoded16(out, format)), samples)
    assert is_colored(opened(out))


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_png_color_and_alpha_keep_every_level(channels: int) -> None:
    samples = sixteen(33, 21, channels)
    picture, out = colored(bytes(imagecodecs.png_encode(samples)))
    pixels = decoded16(out, "PNG")
    assert picture.info.bits == 16
    assert np.array_equal(grey16(pixels), samples[..., 0] if channels == 2 else grey16(samples))
    if channels in (2, 4):
        assert np.array_equal(pixels[..., 3], samples[..., -1])


@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG2000"])
def test_a_colored_16_bit_copy_can_be_colored_again(format: str) -> None:
    samples = sixteen(20, 30)
    _, once = colored(saved(Image.fromarray(samples), format))
    picture, twice = colored(once)
    assert picture.info.mode == "RGB;16"
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
    picture, out = colored(b"P5 6 4 65535\n" + samples.astype(">u2").tobytes())
    assert np.array_equal(picture.luma, samples)
    assert np.array_equal(grey16(decoded16(out, "PNG")), samples)


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
def test_jpeg_luma_coefficients_are_carried_over(mode: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    source = saved(photograph(mode, size), "JPEG", **options)
    picture, out = colored(source)
    across, down = -(-size[0] // 8), -(-size[1] // 8)
    assert picture.luma_exact
    assert np.array_equal(luma_coefficients(out)[:down, :across], luma_coefficients(source)[:down, :across])
    assert np.array_equal(decode(out, max_pixels=LIMIT).luma, picture.luma)
    assert opened(out).size == size
    assert is_colored(opened(out))


def test_jpeg_tables_are_the_sources_own() -> None:
    source = opened(saved(photograph("RGB"), "JPEG", quality=83))
    out = opened(colored(saved(photograph("RGB"), "JPEG", quality=83))[1])
    assert out.quantization == source.quantization  # type: ignore[attr-defined]


def test_a_grey_jpeg_gets_the_standard_chroma_table_of_its_quality() -> None:
    expected = opened(saved(photograph("RGB"), "JPEG", quality=60)).quantization[1]  # type: ignore[attr-defined]
    out = opened(colored(saved(photograph("L"), "JPEG", quality=60))[1])
    assert np.abs(np.array(out.quantization[1]) - expected).max() <= 1  # type: ignore[attr-defined]


def test_a_cmyk_jpeg_is_colored_and_not_called_exact() -> None:
    source = saved(photograph("CMYK"), "JPEG", quality=95)
    picture, out = colored(source)
    assert not picture.luma_exact
    assert opened(out).mode == "RGB"
    assert np.abs(grey(opened(out)).astype(int) - grey(opened(source))).mean() < 3


def test_an_rgb_coded_jpeg_is_not_called_exact() -> None:
    picture, out = colored(saved(photograph("RGB"), "JPEG", keep_rgb=True))
    assert not picture.luma_exact
    assert opened(out).mode == "RGB"


def test_a_multi_picture_jpeg_keeps_its_first_picture() -> None:
    source = saved(photograph(), "MPO", save_all=True, append_images=[photograph()])
    picture, out = colored(source)
    assert (picture.info.format, picture.info.frames) == ("MPO", 2)
    assert opened(out).format == "JPEG"


# Metadata


def exif_block(orientation: int = 1, xmp: bytes | None = None) -> bytes:
    exif = Image.Exif()
    if xmp:
        exif[0x02BC] = xmp
    exif[0x010E], exif[0x0131], exif[0x0112] = "Pier, 1931", "ScanStation", orientation
    exif.get_ifd(0x8769)[0x9003] = "1931:05:01 12:00:00"
    return exif.tobytes()


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="box 12"/>'
    b"</rdf:RDF></x:xmpmeta>"
)


def xmp_of(encoded: bytes) -> bytes:
    info = opened(encoded).info
    packet = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    return packet.encode() if isinstance(packet, str) else packet


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_metadata_is_kept_beside_the_provenance(format: str) -> None:
    rgb_profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options: dict[str, Any] = {"exif": exif_block(), "xmp": XMP, "icc_profile": rgb_profile, "dpi": (300, 300)}
    if format == "PNG":
        options.pop("xmp")
        options["pnginfo"] = png_text("XML:com.adobe.xmp", XMP.decode())
    if format == "TIFF":
        options["exif"] = exif_block(xmp=XMP)
    _, out = colored(saved(photograph("RGB"), format, **options))
    written = opened(out)
    exif = written.getexif()
    assert (exif[0x010E], exif[0x0131]) == ("Pier, 1931", "ScanStation")
    assert exif.get_ifd(0x8769)[0x9003] == "1931:05:01 12:00:00"
    assert written.info["icc_profile"] == rgb_profile
    assert b"box 12" in xmp_of(out)
    assert b'colorize:ModelSHA256="' + b"a" * 64 in xmp_of(out)
    if format != "WEBP":
        assert written.info["dpi"] == pytest.approx((300, 300), abs=0.01)


def png_text(key: str, value: str) -> Any:
    text = PngImagePlugin.PngInfo()
    text.add_itxt(key, value)
    return text


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "JPEG2000", "GIF"])
def test_the_copy_says_where_its_colors_come_from(format: str) -> None:
    _, out = colored(saved(photograph(), format))
    packet = out.partition(b"<x:xmpmeta")[2] if format == "JPEG2000" else xmp_of(out)
    for word in (b"Colors inferred by unet", b"a" * 64, b"b" * 64, b"compositeWithTrainedAlgorithmicMedia"):
        assert word in packet
    assert "K\u00f6ln &amp; 'more' &lt;1&gt;.tif".encode() in packet


def test_the_provenance_is_well_formed_xml_whatever_the_source_is_called() -> None:
    odd = Provenance("m", "0" * 64, "a\x00b\udcff\"'<&>\n.png", "1" * 64)
    for existing in (None, XMP, b"not a packet"):
        ElementTree.fromstring(odd.xmp(existing))
    ElementTree.fromstring(PROVENANCE.xmp(XMP))


def test_plain_sentences_are_where_viewers_show_them() -> None:
    _, jpeg = colored(saved(photograph(), "JPEG", comment="box 12"))
    comments = [s.payload for s in segments(jpeg) if s.marker == 0xFE]
    assert comments[0] == b"box 12"
    assert comments[1].startswith(b"Colors inferred by unet")
    _, png = colored(saved(photograph(), "PNG"))
    assert opened(png).info["Comment"].startswith("Colors inferred by unet")
    _, tiff = colored(saved(photograph(), "TIFF"))
    assert opened(tiff).tag_v2[270].startswith("Colors inferred by unet")  # type: ignore[attr-defined]
    _, codestream = colored(saved(photograph(), "JPEG2000", no_jp2=True))
    assert b"Colors inferred by unet" in codestream


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_grey_profile_is_left_out(format: str) -> None:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = b"GRAY"
    _, out = colored(saved(photograph(), format, icc_profile=bytes(profile)))
    assert not opened(out).info.get("icc_profile")


def test_png_text_is_kept() -> None:
    _, out = colored(saved(photograph(), "PNG", pnginfo=png_text("Title", "Pier")))
    assert opened(out).info["Title"] == "Pier"


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_the_network_sees_upright_and_the_file_keeps_its_layout(format: str, orientation: int) -> None:
    source = saved(photograph(), format, exif=exif_block(orientation))
    small = decode_small(source, LIMIT, max_pixels=LIMIT)
    upright = grey(ImageOps.exif_transpose(Image.open(io.BytesIO(source))))
    assert np.array_equal(small.luma, upright)
    assert (small.info.width, small.info.height, small.info.orientation) == (61, 47, orientation)

    picture, out = colored(source)
    assert picture.luma.shape == (47, 61)
    assert Image.open(io.BytesIO(out)).size == Image.open(io.BytesIO(source)).size
    assert read_info(out).orientation == orientation
    again = grey(ImageOps.exif_transpose(Image.open(io.BytesIO(out))))
    assert np.abs(again.astype(int) - upright).max() <= (255 if format == "JPEG" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orienting_is_pillows_and_can_be_undone(orientation: int) -> None:
    stored = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(stored)
    image.getexif()[0x0112] = orientation
    assert np.array_equal(orient(stored, orientation), np.asarray(ImageOps.exif_transpose(image)))
    assert np.array_equal(unorient(orient(stored, orientation), orientation), stored)


# The small copy


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("size", [(1000, 700), (3000, 120), (300, 200)])
def test_the_small_copy_has_about_the_area_asked_for(format: str, size: tuple[int, int]) -> None:
    small = decode_small(saved(photograph(size=size), format), 10_000, max_pixels=LIMIT)
    assert 10_000 <= small.luma.size <= 4 * 10_000
    assert small.luma.shape[1] / small.luma.shape[0] == pytest.approx(size[0] / size[1], rel=0.08)


def test_the_small_copy_is_never_enlarged() -> None:
    assert decode_small(saved(photograph(), "PNG"), 10**6, max_pixels=LIMIT).luma.shape == (47, 61)


def test_colorfulness_tells_color_from_grey_and_toned() -> None:
    def measured(image: Image.Image) -> float:
        return decode_small(saved(image, "JPEG", quality=85), 40_000, max_pixels=LIMIT).colorfulness

    photo = astronaut()
    grey_photo = photo.convert("L")
    sepia = ImageOps.colorize(grey_photo, (40, 20, 5), (255, 240, 200), mid=(140, 100, 70))
    assert measured(grey_photo) == 0
    assert measured(grey_photo.convert("RGB")) < 1
    assert measured(sepia) < 3
    assert measured(photo) > 20


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
        (b"a plain text, no picture\n" * 20, "not_an_image"),
        (bytes(1000), "not_an_image"),
        (b"%PDF-1.7\n" + bytes(100), "unsupported"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported"),
        (b"\0\0\0\x20ftypheic" + bytes(100), "unsupported"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "unreadable"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_picture_is_refused_with_a_code(encoded: bytes, code: str) -> None:
    assert failure(encoded).code in (code, "truncated" if code == "unreadable" else code)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "JPEG2000", "PPM"])
def test_a_file_cut_in_half_is_truncated(format: str) -> None:
    encoded = saved(photograph(size=(200, 150)), format)
    code = failure(encoded[: len(encoded) // 2]).code
    assert code == "truncated" or (format == "TIFF" and code == "unreadable")


def test_a_jpeg_whose_coefficients_cannot_be_read_is_unreadable() -> None:
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
def test_pillows_global_limit_does_not_matter(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(photograph(), format)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    decode_small(source, 100, max_pixels=LIMIT)
    picture = decode(source, max_pixels=LIMIT)
    assert encode(picture, compose(picture, smooth_ab()), PROVENANCE)
    assert failure(source, max_pixels=2000).code == "too_large"


def test_no_warning_leaks() -> None:
    palette = photograph("P")
    source = saved(palette, "PNG", transparency=bytes(range(200)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode_small(source, 100, max_pixels=LIMIT)
        decode(source, max_pixels=LIMIT)


def test_errors_survive_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ImageDecodeError("truncated", "it ends early")))
    assert (error.code, str(error)) == ("truncated", "it ends early")


def test_frames_are_counted() -> None:
    frames = [photograph(), ImageOps.invert(photograph())]
    for format in ("GIF", "TIFF", "WEBP"):
        source = saved(frames[0], format, save_all=True, append_images=frames[1:])
        picture, out = colored(source)
        assert picture.info.frames == 2
        assert np.array_equal(grey(opened(out)), grey(Image.open(io.BytesIO(source))))


# Names


@pytest.mark.parametrize(
    ("name", "format", "expected"),
    [
        ("a/b.jpg", "JPEG", "a/b.jpg"),
        ("A.JPEG", "JPEG", "A.JPEG"),
        ("a.mpo", "MPO", "a.mpo"),
        ("a.png", "JPEG", "a.png"),  # what the suffix says is not ours to correct
        ("scan", "TIFF", "scan"),
        ("a.gif", "GIF", "a.gif.png"),  # `a.png` may lie beside it
        ("a.PGM", "PPM", "a.PGM.png"),
        ("a.png", "GIF", "a.png"),
        ("scan", "PPM", "scan.png"),
        ("1931.05/.hidden, ca. 1900", "TGA", "1931.05/.hidden, ca. 1900.png"),
    ],
)
def test_names_are_kept_unless_their_suffix_cannot_be(name: str, format: str, expected: str) -> None:
    assert output_name(name, format) == expected


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
@pytest.mark.filterwarnings("ignore")  # of Pillow's own reading of the damaged file, for its size
def test_damage_ends_in_a_picture_or_in_a_code(format: str) -> None:
    intact = saved(photograph("RGB" if format == "QOI" else "L", (40, 30)), format)
    for seed in range(40):
        encoded = damaged(intact, seed)
        try:
            small = decode_small(encoded, 100, max_pixels=10**6)
            picture, out = colored(encoded)
        except ImageDecodeError as error:
            assert error.code
            continue
        assert small.info == picture.info
        assert opened(out).size == Image.open(io.BytesIO(encoded)).size
