"""Huge TIFF and PNG, read and written by rows: the same pixels, messages and errors as for small ones."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmarks.image_cost import Kind, make
from colorize.imaging.formats import (
    FileBytes,
    ImageDecodeError,
    decode,
    decode_small,
    decode_thumbnail,
    encode_grey,
    png,
    sha256,
    tiff_rows,
)
from colorize.imaging.formats.decoded_image import Rows
from colorize.predict.render import render, render_into
from tests.every_kind import images, samples
from tests.images import LIMIT, PROVENANCE, colored, grey, opened, saved, smooth_ab
from tests.imaging.test_reversible_properties import grey16


@cache
def tiffs() -> dict[str, bytes]:
    """The TIFF files of every kind."""
    return {name: data for name, data in images() if name.startswith("TIFF")}


def kinds() -> dict[str, bytes]:
    return {name: data for name, data in tiffs().items() if name.endswith(("17x33", "1x1"))}


def oriented() -> dict[str, bytes]:
    return {name: data for name, data in tiffs().items() if "orientation" in name}


def plain() -> dict[str, bytes]:
    return {name: data for name, data in kinds().items() if "bits" in name and "planes" not in name}


@pytest.fixture
def by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image counts as huge."""
    monkeypatch.setattr(tiff_rows, "LARGE", 0)
    monkeypatch.setattr(png, "_HUGE", 0)


def test_every_uncompressed_layout_is_read_by_rows(by_rows: None) -> None:
    assert len(plain()) > 80
    for name, data in plain().items():
        assert isinstance(decode(data, max_pixels=LIMIT).luma, Rows), name


@pytest.mark.slow
def test_reading_by_rows_equals_reading_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, data in {**kinds(), **oriented()}.items():
        area = LIMIT if "orientation" in name else 64  # a mirrored image is divided into other cells at its edges
        once, small = decode(data, max_pixels=LIMIT), decode_small(data, area, max_pixels=LIMIT)
        with monkeypatch.context() as patched:
            patched.setattr(tiff_rows, "LARGE", 0)
            rows, small_by_rows = decode(data, max_pixels=LIMIT), decode_small(data, area, max_pixels=LIMIT)
            assert np.array_equal(rows.luma, once.luma), name
            assert (rows.alpha is None) == (once.alpha is None), name
            if rows.alpha is not None and once.alpha is not None:
                assert np.array_equal(rows.alpha, once.alpha), name
        assert rows.luma.dtype == once.luma.dtype
        assert np.array_equal(small_by_rows.luma, small.luma), name
        assert (small_by_rows.info, small_by_rows.kind) == (small.info, small.kind), name


@pytest.mark.slow
def test_a_thumbnail_is_upright_with_the_luma_of_the_network_input(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {**kinds(), **oriented(), **{name: data for name, data in images() if "orientation 6" in name}}
    for large in (1 << 24, 0):
        monkeypatch.setattr(tiff_rows, "LARGE", large)
        for name, data in sources.items():
            thumbnail, small = decode_thumbnail(data, 64, max_pixels=LIMIT), decode_small(data, 64, max_pixels=LIMIT)
            assert thumbnail.mode == "RGB"
            difference = np.abs(grey(thumbnail).astype(int) - small.luma)
            assert difference.max() <= 2, name  # rounded to RGB in between
            assert not small.colorfulness or np.ptp(np.asarray(thumbnail), axis=2).any(), name


def test_thumbnails_of_images_read_by_rows_or_scaled_have_no_size_limit(by_rows: None) -> None:
    image = Image.fromarray(samples(3, 8, (64, 48)))
    for format in ("TIFF", "JPEG"):
        assert decode_thumbnail(saved(image, format), 64, max_pixels=1)
    with pytest.raises(ImageDecodeError) as caught:
        decode_thumbnail(saved(image, "PNG"), 64, max_pixels=1)
    assert caught.value.code == "too_large"


def test_rows_are_read_in_any_order_across_strips_and_tiles(by_rows: None) -> None:
    for name, data in ((name, data) for name, data in plain().items() if name.endswith("17x33")):
        luma = decode(data, max_pixels=LIMIT).luma
        everything = np.asarray(luma)
        for start, stop in ((0, 5), (20, 33), (2, 3), (7, 19), (0, 33)):
            assert np.array_equal(luma[start:stop], everything[start:stop]), name


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_png_written_by_rows_is_exact_with_equal_metadata(by_rows: None, bits: int, channels: int) -> None:
    pixels = samples(channels, bits, (64, 48))
    out = colored(bytes(imagecodecs.png_encode(pixels)))[1]
    decoded = imagecodecs.png_decode(out)
    expected = decode(bytes(imagecodecs.png_encode(pixels)), max_pixels=LIMIT)
    if bits == 8:
        assert np.array_equal(grey(opened(out)), expected.luma)
    else:
        assert np.array_equal(grey16(decoded), expected.luma)
    assert (expected.alpha is None) == (decoded.shape[2] == 3)
    if expected.alpha is not None:
        assert np.array_equal(decoded[..., -1], expected.alpha)
    back = decode(encode_grey(decode(out, max_pixels=LIMIT)), max_pixels=LIMIT)
    assert np.array_equal(back.luma, expected.luma)
    assert [c.type for c in png.chunks(out)][-1] == b"IEND"


def test_a_png_written_by_rows_keeps_the_same_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a scanner"
    source = saved(Image.fromarray(samples(1, 8, (64, 48))), "PNG", dpi=(300, 300), exif=exif)
    once = colored(source)[1]
    monkeypatch.setattr(png, "_HUGE", 0)
    by_rows = colored(source)[1]
    assert list(png.chunks(by_rows)) == list(png.chunks(once))
    assert np.array_equal(np.asarray(opened(by_rows)), np.asarray(opened(once)))


@pytest.mark.parametrize("options", [{}, {"compression": "lzw"}, {"tile": (16, 16), "compression": "zlib"}], ids=str)
def test_a_file_that_ends_early_is_truncated(by_rows: None, options: dict[str, Any]) -> None:
    out = io.BytesIO()
    tifffile.imwrite(out, samples(3, 16, (64, 48)), photometric="rgb", **options)
    with pytest.raises(ImageDecodeError) as caught:
        render(out.getvalue()[:-3000], smooth_ab(), PROVENANCE, max_pixels=LIMIT)
    assert caught.value.code == "truncated"


def test_damage_within_a_strip_has_an_error_code(by_rows: None) -> None:
    out = io.BytesIO()
    tifffile.imwrite(out, samples(1, 16, (200, 150)), compression="zlib", rowsperstrip=10)
    damaged = bytearray(out.getvalue())
    middle = len(damaged) // 2
    damaged[middle : middle + 400] = bytes(400)
    with pytest.raises(ImageDecodeError) as caught:
        render(bytes(damaged), smooth_ab(), PROVENANCE, max_pixels=LIMIT)
    assert caught.value.code in ("unreadable", "truncated")


def test_coloring_a_path_equals_coloring_its_bytes(tmp_path: Path) -> None:
    sources = plain()["TIFF 16 bits, 3 channels lzw 17x33"], saved(Image.fromarray(samples(1, 8, (17, 33))), "PNG")
    for number, data in enumerate(sources):
        path = tmp_path / str(number)
        path.write_bytes(data)
        source = FileBytes(path)
        assert sha256(source) == sha256(data)
        assert len(pickle.loads(pickle.dumps(source))) == len(data)
        expected = render(data, smooth_ab(), PROVENANCE, max_pixels=LIMIT)
        with (tmp_path / "copy").open("wb") as out:
            assert render_into(out, source, smooth_ab(), PROVENANCE, max_pixels=LIMIT) == expected.luma_exact
        assert (tmp_path / "copy").read_bytes() == expected.data


def test_a_file_modified_while_being_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    path.write_bytes(plain()["TIFF 16 bits, 1 channels  17x33"])
    source = FileBytes(path)
    assert source[:4] == path.read_bytes()[:4]
    os.utime(path, ns=(1, 1))
    with pytest.raises(ImageDecodeError) as caught:
        decode(source, max_pixels=LIMIT).luma[:]
    assert caught.value.code == "changed"


def test_a_temporary_file_is_deleted_after_its_last_reader(tmp_path: Path) -> None:
    path = tmp_path / "copy.tif"
    path.write_bytes(b"abc")
    source = FileBytes(path, owned=True)
    pickle.loads(pickle.dumps(source))
    assert path.exists()
    del source
    assert not path.exists()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_image(tmp_path: Path) -> None:
    """17 megapixels of 16-bit RGB are 101 MB; the process may use little more than its imports."""
    path = tmp_path / "scan.tif"
    make(path, Kind(4200, 4000, "tif", channels=3))
    command = [sys.executable, "-m", "benchmarks.image_cost", "--way", "ours", "--path", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["peak_mb"] < 180
    copy, original = tifffile.imread(tmp_path / "colored-scan.tif"), tifffile.imread(path)
    assert copy.shape == original.shape
    assert np.array_equal(grey16(copy[:500]), grey16(original[:500]))
