"""A colored JPEG has the luma coefficients of its source, verified with libjpeg-turbo's `jpegtran`.

`jpegtran -grayscale -optimize` writes the same bytes for the same coefficients, tables and size.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from colorize.imaging.compose import compose
from colorize.imaging.formats import (
    DecodedImage,
    ImageDecodeError,
    decode,
    decode_small,
    encode,
    encode_grey,
    jpeg_luma,
    read_info,
)
from colorize.imaging.formats.jpeg_luma import luma_coefficients
from colorize.imaging.formats.jpeg_stream import first_plane, segments
from tests.conftest import filtered, jpegtran
from tests.images import LIMIT, PROVENANCE, astronaut, opened, photograph, saved, smooth_ab

SIZES = [(1, 1), (1, 9), (8, 8), (16, 16), (17, 9), (61, 47), (200, 33)]
SUBSAMPLINGS = {"4:4:4": "1x1", "4:2:2": "2x1", "4:4:0": "1x2", "4:2:0": "2x2", "4:1:1": "4x1"}


def sepia(size: tuple[int, int]) -> Image.Image:
    return ImageOps.colorize(photograph("L", size), (40, 20, 5), (255, 240, 200), mid=(140, 100, 70))


def colored(source: bytes, subsampling: Any = "4:2:0") -> tuple[DecodedImage, bytes]:
    image = decode(source, max_pixels=10**9)
    return image, encode(image, compose(image, smooth_ab(), subsampling), PROVENANCE)


def check_reversible(source: bytes, subsampling: Any = "4:2:0") -> bytes:
    """The copy has the source's luma, decodes completely, and restores to the source's grey."""
    image, out = colored(source, subsampling)
    assert image.luma_exact
    grey = jpegtran(source, "-grayscale", "-optimize")
    assert jpegtran(out, "-grayscale", "-optimize") == grey
    assert jpegtran(encode_grey(decode(out, max_pixels=10**9)), "-optimize") == grey
    written = opened(out)
    assert (written.mode, written.size) == ("RGB", opened(source).size)
    luma_only = Image.open(io.BytesIO(out))
    luma_only.draft("L", None)
    assert np.array_equal(np.asarray(luma_only), image.luma)
    return out


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["grey", "RGB", "sepia"])
@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 1}, {"restart_marker_rows": 1}],
    ids=str,
)
def test_every_encoding_of_every_size(mode: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    image = {"grey": photograph("L", size), "RGB": photograph("RGB", size), "sepia": sepia(size)}[mode]
    for quality in (1, 30, 75, 92, 100):
        check_reversible(saved(image, "JPEG", quality=quality, **options))


@pytest.mark.parametrize("sampling", SUBSAMPLINGS)
@pytest.mark.parametrize("coding", [(), ("-progressive",), ("-restart", "1"), ("-arithmetic",)], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (35, 27), (64, 64)])
def test_every_subsampling_of_the_source(sampling: str, coding: tuple[str, ...], size: tuple[int, int]) -> None:
    source = resampled(photograph("RGB", size), SUBSAMPLINGS[sampling])
    check_reversible(jpegtran(source, *coding), "4:2:0")
    check_reversible(jpegtran(source, *coding), "4:4:4")


def resampled(image: Image.Image, sampling: str) -> bytes:
    """A JPEG with these luma sampling factors ("2x1"), which libjpeg's own encoder accepts."""
    return cjpeg(image, "-sample", f"{sampling},1x1,1x1", "-quality", "80")


def cjpeg(image: Image.Image, *options: str) -> bytes:
    return filtered("cjpeg", "libjpeg-turbo-progs", saved(image, "PPM"), *options)


@pytest.mark.parametrize("tables", [[[1] * 64], [[255] * 64], [list(range(1, 65))]], ids=["ones", "255", "ramp"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_any_quantization_table(tables: list[list[int]], mode: str) -> None:
    check_reversible(saved(photograph(mode), "JPEG", qtables=tables))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_16_bit_quantization_tables(mode: str) -> None:
    options = ("-grayscale",) if mode == "L" else ()
    source = cjpeg(photograph("RGB"), "-quality", "1", *options)  # without -baseline, so with tables above 255
    assert b"\xff\xc1" in source  # extended sequential, because of those tables
    check_reversible(source)


def test_a_chroma_table_after_the_scan_of_the_luma(tmp_path: Path) -> None:
    (tmp_path / "scans").write_text("0;\n1;\n2;\n")
    source = cjpeg(photograph("RGB"), "-quality", "80", "-scans", str(tmp_path / "scans"))
    start = source.index(b"\xff\xdb", source.index(b"\xff\xdb") + 2)
    end = start + 2 + int.from_bytes(source[start + 2 : start + 4], "big")
    table, rest = source[start:end], source[:start] + source[end:]
    second_scan = rest.index(b"\xff\xda", rest.index(b"\xff\xda") + 2)
    check_reversible(rest[:second_scan] + table + rest[second_scan:])


@pytest.mark.parametrize("size", [(65_000, 3), (3, 65_000)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
def test_65000_pixels_wide_or_high(mode: str, size: tuple[int, int], subsampling: str) -> None:
    check_reversible(saved(photograph(mode, size), "JPEG"), subsampling)


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
def test_the_color_has_the_requested_resolution(subsampling: str) -> None:
    out = check_reversible(saved(photograph("L", (64, 48)), "JPEG"), subsampling)
    layers = opened(out).layer  # type: ignore[attr-defined]
    assert [layer[1:3] for layer in layers] == [(2, 2) if subsampling == "4:2:0" else (1, 1), (1, 1), (1, 1)]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_orientation_only_affects_the_network_input(orientation: int, mode: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = saved(photograph(mode, (61, 47)), "JPEG", exif=exif)
    out = check_reversible(source)
    assert read_info(out).orientation == orientation
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(source)).convert("L"))
    assert decode_small(source, LIMIT, max_pixels=LIMIT).luma.shape == upright.size[::-1]


def test_a_grey_source_keeps_its_encoding() -> None:
    """The copy contains its scans byte for byte."""
    for options in ({}, {"progressive": True}, {"restart_marker_blocks": 2}):
        source = saved(photograph("L", (61, 47)), "JPEG", **options)
        plane, copied = first_plane(source), first_plane(colored(source)[1])
        assert plane is not None
        assert copied is not None
        assert (copied.scans, copied.marker) == (plane.scans, plane.marker)


def test_a_copy_can_be_colored_again_without_growing() -> None:
    once = colored(saved(photograph("L", (200, 150)), "JPEG"))[1]
    twice = check_reversible(once)
    assert abs(len(twice) - len(once)) < 8  # the provenance names the source's mode


def test_the_color_adds_few_bytes() -> None:
    source = saved(astronaut().convert("L"), "JPEG", quality=85)
    assert len(colored(source)[1]) < 1.25 * len(source)


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=str)
def test_damage_in_the_scan_never_yields_other_luminance(options: dict[str, Any]) -> None:
    """If it decodes, its luma is what the decoder reads from the source; otherwise there is an error code."""
    source = saved(photograph("L", (90, 70)), "JPEG", **options)
    rng = np.random.default_rng(11)
    for _ in range(60):
        damaged = bytearray(source)
        for position in rng.integers(len(source) // 3, len(source), 3):
            damaged[position] = rng.integers(0, 256)
        try:
            image, out = colored(bytes(damaged))
        except ImageDecodeError as error:
            assert error.code in ("truncated", "unreadable")
            continue
        luma_only = Image.open(io.BytesIO(out))
        luma_only.draft("L", None)
        assert np.array_equal(np.asarray(luma_only), image.luma)


@pytest.mark.parametrize(("place", "value", "fits"), [
    ((0, 0), -1024, True), ((0, 0), 1023, True), ((3, 5), -1023, True),
    ((0, 0), 1024, False), ((3, 5), 1024, False), ((3, 5), -1024, False), ((7, 7), 8651, False),
])  # fmt: skip
def test_out_of_range_coefficients_are_refused(
    place: tuple[int, int], value: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged scan may decode to any coefficients; reencoded with the standard tables they would differ."""
    y = np.zeros((2, 3, 8, 8), np.int16)
    y[(1, 1, *place)] = value
    monkeypatch.setattr(jpeg_luma, "_transformed", lambda source: None)
    monkeypatch.setattr(jpeg_luma, "_read_luma", lambda source, scratch: (y, np.ones((8, 8), np.uint16)))
    try:
        made = jpeg_luma.grey_jpeg(b"", (24, 16))
    except ImageDecodeError as error:
        assert (error.code, fits) == ("unreadable", False)
    else:
        monkeypatch.undo()
        assert fits and np.array_equal(luma_coefficients(made), y)


@pytest.mark.parametrize("bits", [11, 12, 15])
@pytest.mark.parametrize("entry", range(0, 40, 3))
def test_extreme_tables_give_equal_coefficients_or_an_error_code(entry: int, bits: int) -> None:
    """One symbol of the luma's AC table with other bits: damage that causes no decoder warning."""
    source = bytearray(saved(astronaut().resize((64, 48)), "JPEG", quality=85))
    at = source.index(bytes((0xFF, 0xC4, 0, 181, 0x10))) + 21 + entry
    source[at] = source[at] & 0xF0 | bits
    try:
        made = jpeg_luma.grey_jpeg(bytes(source), (64, 48))
    except ImageDecodeError as error:
        assert error.code == "unreadable"
    else:
        assert np.array_equal(luma_coefficients(made), luma_coefficients(bytes(source)))


def test_damaged_files_leak_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    source = saved(photograph("RGB", (90, 70)), "JPEG")
    for length in range(200, len(source), 97):
        try:
            luma_coefficients(source[:length] + bytes(50))
        except ImageDecodeError as error:
            assert error.code == "unreadable"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_any_amount_of_metadata_is_copied(mode: str) -> None:
    comments = [b"\xff\xfe\0\x09note%03d" % number for number in range(200)]
    source = saved(photograph(mode), "JPEG")
    out = check_reversible(source[:20] + b"".join(comments) + source[20:])
    assert [s.payload for s in segments(out) if s.marker == 0xFE][:200] == [c[4:] for c in comments]


def test_stray_bytes_around_segments_are_tolerated() -> None:
    source = saved(photograph("L"), "JPEG", quality=80)
    check_reversible(source + b"\0\0trailing")
    check_reversible(source[:2] + b"\xff\xff\xff" + source[3:])  # fill bytes before a marker
    comment = b"\xff\xfe\0\x06fine"
    check_reversible(source[:-2] + comment + source[-2:])  # a comment after the scan


# Not exact


def test_12_bits_are_refused_with_an_error_code() -> None:
    source = bytearray(saved(photograph("L"), "JPEG"))
    frame = source.index(b"\xff\xc0")
    source[frame + 1], source[frame + 4] = 0xC1, 12
    with pytest.raises(ImageDecodeError) as error:
        decode(bytes(source), max_pixels=LIMIT)
    assert error.value.code == "unsupported"
    assert "12-bit" in str(error.value)


@pytest.mark.parametrize("mode", ["CMYK", "RGB"])
def test_cmyk_and_rgb_coded_files_are_not_marked_exact(mode: str) -> None:
    options = {"keep_rgb": True} if mode == "RGB" else {}
    image, out = colored(saved(photograph(mode), "JPEG", quality=95, **options))
    assert not image.luma_exact
    assert opened(out).mode == "RGB"
    assert np.abs(np.asarray(opened(out).convert("L")).astype(int) - image.luma).mean() < 3
