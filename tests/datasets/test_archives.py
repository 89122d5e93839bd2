"""Parquet archives as sources: rows, columns, and damage that fails rows but not the run."""

from __future__ import annotations

import errno
import random
from dataclasses import replace
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import EndpointConnectionError

from colorize.datasets import readers
from colorize.datasets.archives import MIN_SLICE_ROWS
from colorize.datasets.readers import ArchiveReader
from colorize.datasets.settings import SourceSettings
from colorize.datasets.sources import _plan, open_source
from colorize.errors import UsageError
from colorize.imaging.settings import SizeLimits
from colorize.storage import parquet_pages
from colorize.storage.root import Storage
from tests.conftest import write_tree
from tests.datasets.reading import SETTINGS, archive, fetch


def test_a_step_holds_few_large_rows_of_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "FETCH_BYTES", 2500)
    archive(tmp_path / "a.parquet", [random.Random(i).randbytes(1000) for i in range(21)])
    source = open_source(str(tmp_path), SETTINGS)

    assert [len(raws) for raws in source.reader.fetch(source.units)] == [2] * 10 + [1]


def test_side_files_of_a_table_are_not_archives(tmp_path: Path) -> None:
    archive(tmp_path / "part-0.parquet", [b"1"])
    for name in ("_delta_log/10.checkpoint.parquet", "._part-0.parquet", ".hidden/x.parquet", "_metadata.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"not even Parquet")
    write_tree(tmp_path, {"_delta_log/10.json": b"{}", ".part-0.parquet.crc": b"c", "README.md": b"r", "_SUCCESS": b""})
    source = open_source(str(tmp_path), SETTINGS)
    rows = {raw.path: raw.error for raw in fetch(source)}

    assert source.parts == {"part-0.parquet": 1}
    assert rows.pop("part-0.parquet#0") == ""
    assert set(rows.values()) == {"excluded"}
    assert all(".parquet" in name for name in rows)


def test_an_archive_without_the_column_is_one_failed_row(tmp_path: Path) -> None:
    archive(tmp_path / "a.parquet", [b"1"])
    pq.write_table(pa.table({"caption": ["x", "y"]}), tmp_path / "captions.parquet")
    pq.write_table(pa.table({"image": [b"1"], "status": ["draft"]}), tmp_path / "drafts.parquet")
    rows = {raw.path: raw.error for raw in fetch(open_source(str(tmp_path), SETTINGS))}

    assert rows == {"a.parquet#0": "", "captions.parquet": "no_image_column", "drafts.parquet": "column_taken"}


def test_archives_are_chosen_by_name(tmp_path: Path) -> None:
    for name in ("train-0", "train-1", "test-0"):
        archive(tmp_path / f"{name}.parquet", [b"1"])
    source = open_source(str(tmp_path), SourceSettings(include=("train-*",), exclude=("*-1.parquet",)))

    assert source.parts == {"train-0.parquet": 1}
    assert {raw.path: raw.error for raw in fetch(source)} == {
        "train-0.parquet#0": "", "train-1.parquet": "excluded", "test-0.parquet": "excluded",
    }  # fmt: skip


def test_an_archive_with_a_column_that_the_output_adds_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"1"], "status": ["draft"]}), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=r"column 'status', which the output adds"):
        open_source(str(tmp_path), SETTINGS)


def test_tables_beside_images_are_ignored(tmp_path: Path) -> None:
    pq.write_table(pa.table({"number": [1]}), tmp_path / "table.parquet")
    write_tree(tmp_path, {"a.jpg": b"a", "scan": b"s", "notes.txt": b"n"})
    source = open_source(str(tmp_path), SETTINGS)

    assert source.parts is None
    assert {raw.path: raw.error for raw in fetch(source)} == {
        "a.jpg": "", "scan": "", "notes.txt": "", "table.parquet": "no_image_column",
    }  # fmt: skip


@pytest.mark.parametrize("struct", [False, True])
def test_an_archive_is_read_row_by_row(tmp_path: Path, struct: bool) -> None:
    images: list[bytes | None] = [f"image {i}".encode() for i in range(11)]
    images[7] = None
    archive(tmp_path / "x" / "p.parquet", images, struct=struct, row_group=5)
    source = open_source(str(tmp_path), SETTINGS)
    rows = fetch(source)

    assert source.total == 11
    assert source.parts == {"x/p.parquet": 11}
    assert [(raw.part, raw.row, raw.path) for raw in rows] == [
        ("x/p.parquet", i, f"x/p.parquet#{i}") for i in range(11)
    ]
    assert [raw.data or None for raw in rows] == images
    assert rows[7].error == "empty"


def test_large_row_groups_are_shared_between_tasks(tmp_path: Path) -> None:
    images: list[bytes | None] = [str(i).encode() for i in range(3 * MIN_SLICE_ROWS + 7)]
    archive(tmp_path / "p.parquet", images, row_group=len(images))
    source = open_source(str(tmp_path / "p.parquet"), SETTINGS)

    assert len(source.blocks()) == 4
    assert [raw.data for raw in fetch(source)] == images


def test_an_archive_without_a_footer_is_a_failed_row(tmp_path: Path) -> None:
    archive(tmp_path / "a.parquet", [b"1", b"2"])
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    source = open_source(str(tmp_path), SETTINGS)
    rows = {raw.path: raw.error for raw in fetch(source)}

    assert source.total == 3
    assert rows == {"a.parquet#0": "", "a.parquet#1": "", "b.parquet": "corrupt_parquet"}


class Flaky(Storage):
    """A storage that fails when `b.parquet` is opened."""

    fault: Exception

    def open(self, name: str) -> IO[bytes]:
        if name == "b.parquet":
            raise self.fault
        return super().open(name)


@pytest.mark.parametrize(
    "fault",
    [OSError(errno.EIO, "i/o error"), PermissionError("denied"), EndpointConnectionError(endpoint_url="http://s3")],
    ids=lambda fault: type(fault).__name__,
)
def test_an_unreachable_archive_is_not_reported_as_damaged(tmp_path: Path, fault: Exception) -> None:
    """A row that calls it damaged would replace those of earlier runs."""
    for name in ("a", "b"):
        archive(tmp_path / f"{name}.parquet", [b"1"])
    storage = Flaky(tmp_path)
    storage.fault = fault
    with pytest.raises(UsageError, match=r"cannot read .*/b.parquet: .*; run again when it is available"):
        _plan(storage, None, SETTINGS, SizeLimits())


def test_an_archive_with_damaged_column_names_is_a_failed_row(tmp_path: Path) -> None:
    archive(tmp_path / "a.parquet", [b"1", b"2"])
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data.replace(b"image", b"im\xffge"))

    assert [raw.error for raw in fetch(open_source(str(tmp_path), SETTINGS))] == ["corrupt_parquet"]


def test_a_partly_damaged_archive_fails_only_the_lost_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    archive(path, [random.Random(i).randbytes(5000) for i in range(40)], row_group=20)
    start = pq.ParquetFile(path).metadata.row_group(1).column(1).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 200] = bytes(200)
    path.write_bytes(data)
    rows = fetch(open_source(str(path), SETTINGS))

    assert [raw.row for raw in rows] == list(range(40))
    assert {raw.error for raw in rows[:20]} == {""}
    assert {raw.error for raw in rows[20:]} == {"corrupt_parquet"}


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("photograph", r"no column 'photograph'.*image_column"),
        ("imagee", r"did you mean 'image'"),
        ("id", r"column 'id' .* has the type int64, not bytes"),
    ],
)
def test_a_wrong_image_column_is_a_usage_error(tmp_path: Path, column: str, message: str) -> None:
    archive(tmp_path / "a.parquet", [b"1"])
    with pytest.raises(UsageError, match=message):
        open_source(str(tmp_path), SourceSettings(image_column=column))


@pytest.mark.parametrize(
    "suffix", ["pgm", "PBM", "ppm", "avif", "psd", "tga", "pcx", "qoi", "sgi", "jfif", "jpe", "mpo"]
)
def test_a_stray_archive_does_not_hide_scans(tmp_path: Path, suffix: str) -> None:
    archive(tmp_path / "index.parquet", [b"1", b"2"])
    pq.write_table(pa.table({"number": [1]}), tmp_path / "table.parquet")
    write_tree(tmp_path, {f"scan.{suffix}": b"s", "no suffix": b"n", "README.md": b"r"})
    source = open_source(str(tmp_path), SETTINGS)

    assert source.parts == {"index.parquet": 2}
    assert {raw.path: raw.error for raw in fetch(source)} == {
        f"scan.{suffix}": "",
        "no suffix": "",
        "README.md": "excluded",
        "table.parquet": "no_image_column",
        "index.parquet#0": "",
        "index.parquet#1": "",
    }


def test_a_bomb_in_an_archive_is_a_failed_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_pages, "BOMB_BYTES", 10 << 20)
    bomb = pa.table({"image": [bytes(20 << 20)]})
    pq.write_table(bomb, tmp_path / "bomb.parquet", compression="zstd", use_dictionary=False, write_statistics=False)
    archive(tmp_path / "good.parquet", [b"1", b"2"])
    rows = fetch(open_source(str(tmp_path), SETTINGS))

    assert [(raw.path, raw.error) for raw in rows] == [
        ("bomb.parquet#0", "too_large"),
        ("good.parquet#0", ""),
        ("good.parquet#1", ""),
    ]
    assert "compressed to" in rows[0].message


def test_only_images_above_the_limit_are_refused(tmp_path: Path) -> None:
    archive(tmp_path / "a.parquet", [b"1" * 10, b"2" * 11, None, b"3"])
    source = open_source(str(tmp_path), SETTINGS)
    assert isinstance(source.reader, ArchiveReader)
    rows = [raw for raws in replace(source.reader, max_bytes=10).fetch(source.units) for raw in raws]

    assert [raw.error for raw in rows] == ["", "too_large", "empty", ""]
    assert rows[1].message == "the row's image has 11 bytes; at most 10 are read"


def test_a_row_with_a_path_but_no_bytes_fails_with_advice(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [{"bytes": None, "path": "scans/1.jpg"}]}), tmp_path / "a.parquet")
    (row,) = fetch(open_source(str(tmp_path), SETTINGS))
    assert row.error == "empty"
    assert "has a path ('scans/1.jpg') but no bytes" in row.message
