"""Metadata budgets: time and memory are bounded by what a valid file of the same size can contain."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from colorize.bulk.load import Loader, Stamp, load
from colorize.bulk.settings import BulkSettings
from colorize.datasets.readers import UNIT_SCHEMA, FileReader
from colorize.datasets.settings import SourceSettings
from colorize.imaging.canvas import Canvases
from colorize.imaging.formats import FileBytes, ImageDecodeError, read_info, sha256
from colorize.imaging.formats import exif as exif_blocks
from colorize.imaging.formats.icc import for_rgb
from colorize.imaging.formats.xmp import Name, Packet
from colorize.storage.root import Storage
from tests import bombs
from tests.images import colored, is_colored

TITLE = Name("urn:n", "n", "title")


@contextmanager
def within(seconds: float, megabytes: int) -> Iterator[None]:
    """Limits the block's CPU time and its peak of allocated memory."""
    started = time.process_time()
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < megabytes << 20
    assert time.process_time() - started < seconds


def outcome(folder: Path, name: str, size: int) -> dict[str, object]:
    """The load stage's result for one file."""
    settings = BulkSettings()
    reader = FileReader(Storage(folder), SourceSettings(), settings.limits.max_bytes)
    loader = Loader(
        reader, settings.limits, settings.triage, Canvases(64, 32), 64 * 64, 1 << 24, Stamp("m", "0", "0", 1)
    )
    unit = {"name": name, "size": size, "identity": "", "name_taken": False, "error": "", "message": ""}
    (table,) = load(pa.Table.from_pylist([unit], schema=UNIT_SCHEMA), loader)
    row: dict[str, object] = table.to_pylist()[0]
    return row


@pytest.mark.parametrize("listed", [7 << 40, -1])
def test_a_sparse_file_of_seven_terabytes_is_refused_unread(tmp_path: Path, listed: int) -> None:
    with (tmp_path / "scan.tif").open("wb") as file:
        file.write(b"II*\0")
        file.truncate(7 << 40)

    with within(20, 64):  # hashing alone would take hours
        row = outcome(tmp_path, "scan.tif", listed)
    assert (row["status"], row["error"]) == ("failed", "too_large")
    assert "limits.max_bytes" in str(row["message"])


def test_hashing_respects_its_timeout(tmp_path: Path) -> None:
    with (tmp_path / "scan.tif").open("wb") as file:
        file.truncate(1 << 40)
    with within(3, 16), pytest.raises(TimeoutError, match=r"more than 0\.5 s"):
        sha256(FileBytes(tmp_path / "scan.tif"), seconds=0.5)


def test_pages_are_counted_without_being_read() -> None:
    with within(5, 40):
        assert read_info(bombs.tiff_of_many_directories(24_000)).frames == 24_000


@pytest.mark.parametrize("end", [b"", struct.pack("<H", 9)])
def test_a_broken_page_chain_ends(end: bytes) -> None:
    first = bombs.tiff_of_many_directories(1)
    astray = first[:-4] + struct.pack("<I", len(first)) + end
    circle = first[:-4] + first[4:8]
    assert [read_info(data).frames for data in (first, astray, circle)] == [1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (bombs.tiff_of_overlapping_tags(2700, 336_000), "oversized_metadata"),
        (bombs.tiff_of_nested_directories(8000), "unreadable"),  # more tags than are read from a directory
        (bombs.tiff_of_nested_directories(4000), "oversized_metadata"),
    ],
    ids=["overlapping", "too many", "nested"],
)
def test_tiff_tags_never_exceed_the_file_size(data: bytes, code: str) -> None:
    with within(5, 40), pytest.raises(ImageDecodeError) as caught:
        colored(data)
    assert caught.value.code == code


def test_tags_that_fill_the_file_are_copied() -> None:
    _, copy = colored(bombs.tiff_of_overlapping_tags(1, 336_000))
    assert Image.open(io.BytesIO(copy)).tag_v2[55_000] == bytes(336_000)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_profile_decompression_bomb_is_dropped() -> None:
    profile = bombs.png_chunk(b"iCCP", b"profile\0\0" + bombs.zeros(1 << 30))
    after_pixels = bombs.png(b"", bits=16)
    data = after_pixels[:-12] + profile + after_pixels[-12:]
    with within(5, 60):
        _, copy = colored(data)
    assert is_colored(Image.open(io.BytesIO(copy)))
    assert b"iCCP" not in copy


@pytest.mark.parametrize(
    "data",
    [
        bombs.png(bombs.png_chunk(b"tEXt", b"a\0b") * 20_000),
        bombs.jpeg(*[(0xFE, b"")] * 20_000),
        bombs.jp2(struct.pack(">I4s", 8, b"free") * 20_000),
    ],
    ids=["PNG", "JPEG", "JPEG 2000"],
)
def test_an_image_of_thousands_of_pieces_is_refused(data: bytes) -> None:
    with within(5, 40), pytest.raises(ImageDecodeError) as caught:
        colored(data)
    assert caught.value.code == "oversized_metadata"


@pytest.mark.slow
def test_exif_parsing_is_linear() -> None:
    block = bombs.exif_of_nested_directories(60_000)
    with within(5, 40):
        assert len(exif_blocks.updated(block, (8, 8), 3)) == len(block)


def test_a_profile_whose_tags_overlap_has_no_equivalent() -> None:
    with within(1, 4):
        assert for_rgb(bombs.profile_of_overlapping_tags(1 << 20)) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "packet",
    [
        *(bombs.xmp("<n:title>&e;</n:title>", encoding, bombs.entities(9)) for encoding in ("utf-8", "utf-16")),
        bombs.xmp("<n:title>x</n:title>", "utf-16-be", "<?xml version='1.0'?>" + bombs.entities(9)),
        bombs.xmp("<n:title>x</n:title>", "utf-32", bombs.entities(9)),
        bombs.xmp("<n:a>" * 5000 + "</n:a>" * 5000 + "<n:title>x</n:title>"),
        bombs.xmp("<n:a/>" * 300_000 + "<n:title>x</n:title>"),
        bombs.xmp("<n:title>x</n:title>" + " " * (17 << 20)),
    ],
    ids=["entities", "entities in UTF-16", "UTF-16 without its mark", "UTF-32", "deep", "wide", "long"],
)  # fmt: skip
def test_malicious_xmp_is_treated_as_empty(packet: bytes) -> None:
    with within(20, 60):
        assert Packet(packet).get(TITLE) is None
        assert Packet(packet).encoded() is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_valid_xmp_is_read_in_any_encoding(encoding: str) -> None:
    assert Packet(bombs.xmp("<n:title>K\u00f6ln</n:title>", encoding)).get(TITLE) == "K\u00f6ln"


def test_an_image_with_deeply_nested_xmp_is_colored_without_it() -> None:
    packet = bombs.xmp("<n:a>" * 5000 + "</n:a>" * 5000)
    _, copy = colored(bombs.jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet)))
    assert is_colored(Image.open(io.BytesIO(copy)))
    assert b"urn:colorize" in copy
    assert b"<n:a>" not in copy
