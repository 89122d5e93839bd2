"""Sinks: images under their names, archives with all their columns."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from colorize.bulk import sinks
from colorize.bulk.joining import assemble
from colorize.bulk.ledger.lost import Lost
from colorize.bulk.ledger.manifest import Record
from colorize.bulk.sinks import FRAGMENTS, FolderSink, ImageResult, ParquetSink, fragments_of
from colorize.storage.root import Storage

OWN = fragments_of("p.parquet", "", "", "")  # the fragments of records without a model


def test_a_folder_sink_writes_successful_rows(tmp_path: Path) -> None:
    done = [ImageResult(Record("a.jpg", "a.jpg"), b"A"), ImageResult(Record("b.jpg").failed("truncated", ""))]
    records = FolderSink(Storage(tmp_path), threads=2).write(done)

    assert records == [item.record for item in done]
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


def test_an_image_that_cannot_be_stored_fails(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"a file where a folder is needed")
    (record,) = FolderSink(Storage(tmp_path), threads=2).write(
        [ImageResult(Record("taken/a.jpg", "taken/a.jpg"), b"A")]
    )

    assert (record.status, record.error, record.output) == ("failed", "write_failed", "")


def test_an_image_is_stored_even_if_the_next_ran_out_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, tries = Storage.write, list[str]()

    def short_of_memory(storage: Storage, name: str, data: bytes) -> None:
        tries.append(name)
        if len(tries) == 1:
            raise MemoryError
        write(storage, name, data)

    monkeypatch.setattr(Storage, "write", short_of_memory)
    (record,) = FolderSink(Storage(tmp_path), threads=2).write([ImageResult(Record("a.jpg", "a.jpg"), b"A")])

    assert (record.error, tries) == ("", ["a.jpg", "a.jpg"])
    assert (tmp_path / "a.jpg").read_bytes() == b"A"


@pytest.fixture
def rows(tmp_path: Path) -> list[ImageResult]:
    """An input archive of 40 rows, and their results; every seventh failed."""
    table = pa.table(
        {
            "image": pa.array([{"bytes": bytes([i]), "path": f"{i}.jpg"} for i in range(40)]),
            "year": pa.array(range(1900, 1940), pa.int16()),
            "tags": pa.array([[str(i), "x"] for i in range(40)]),
        }
    ).replace_schema_metadata({"origin": "museum"})
    pq.write_table(table, tmp_path / "p.parquet", row_group_size=15)
    outcomes = []
    for i in range(40):
        record = Record(f"p.parquet#{i}")
        failed = i % 7 == 0
        outcomes.append(
            ImageResult(
                record.failed("truncated", "") if failed else record, None if failed else bytes([i]) * 3, "p.parquet", i
            )
        )
    return outcomes


def check_joined(tmp_path: Path) -> None:
    before, after = pq.read_table(tmp_path / "p.parquet"), pq.read_table(tmp_path / "out" / "p.parquet")

    assert after.select(before.column_names).equals(before)
    assert after.schema.metadata == {b"origin": b"museum"}
    assert after["colorized"].to_pylist() == [None if i % 7 == 0 else bytes([i]) * 3 for i in range(40)]
    assert after["status"].to_pylist() == ["failed" if i % 7 == 0 else "ok" for i in range(40)]
    assert set(after["error"].to_pylist()) == {"", "truncated"}


def test_finished_rows_are_flushed_at_a_limit(
    tmp_path: Path, rows: list[ImageResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "BUFFER_BYTES", 12)  # four images
    target = Storage(tmp_path / "out")
    written = []

    def come() -> Iterator[ImageResult]:
        for item in rows:
            written.append(sum(1 for _ in target.entries(FRAGMENTS)))
            yield item

    records = ParquetSink(target).write(come())
    assert [record.path for record in records] == [item.record.path for item in rows]
    assert written[10] == 2
    assemble(Storage(tmp_path), target, "p.parquet", OWN)
    check_joined(tmp_path)


def test_an_archive_keeps_its_columns_and_row_order(tmp_path: Path, rows: list[ImageResult]) -> None:
    target = Storage(tmp_path / "out")
    batches = [rows[i : i + 6] for i in range(0, 40, 6)]
    random.Random(1).shuffle(batches)
    for batch in batches:
        ParquetSink(target).write(batch)
    assemble(Storage(tmp_path), target, "p.parquet", OWN)

    check_joined(tmp_path)


def test_rewriting_a_batch_with_other_boundaries_changes_nothing(tmp_path: Path, rows: list[ImageResult]) -> None:
    target = Storage(tmp_path / "out")
    for start, stop in [(0, 10), (5, 20), (0, 3), (20, 40), (18, 25)]:
        ParquetSink(target).write(rows[start:stop])
    assemble(Storage(tmp_path), target, "p.parquet", OWN)

    check_joined(tmp_path)


def test_a_second_pass_replaces_the_columns_of_the_first(tmp_path: Path, rows: list[ImageResult]) -> None:
    first, second = Storage(tmp_path / "out"), Storage(tmp_path / "again")
    ParquetSink(first).write(rows)
    assemble(Storage(tmp_path), first, "p.parquet", OWN)
    ParquetSink(second).write(rows)
    assemble(first, second, "p.parquet", OWN)

    names = pq.read_schema(tmp_path / "again" / "p.parquet").names
    assert names == ["image", "year", "tags", "colorized", "status", "error"]


def test_a_storage_error_loses_no_finished_row(
    tmp_path: Path, rows: list[ImageResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Storage(tmp_path / "out")
    ParquetSink(target).write(rows)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(Storage, "create", full_disk)
        assemble(Storage(tmp_path), target, "p.parquet", OWN)
    assert not (tmp_path / "out/p.parquet").exists()

    assert assemble(Storage(tmp_path), target, "p.parquet", OWN) == Lost()
    check_joined(tmp_path)


def full_disk(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "p.parquet")


@pytest.mark.parametrize("missing", [slice(0, 6), slice(12, 18), slice(36, 40)])
def test_an_archive_with_missing_rows_is_not_written(tmp_path: Path, rows: list[ImageResult], missing: slice) -> None:
    target = Storage(tmp_path / "out")
    absent = rows[missing]
    ParquetSink(target).write([row for row in rows if row not in absent])
    with pytest.raises(RuntimeError, match="run the same command again"):
        assemble(Storage(tmp_path), target, "p.parquet", OWN)
    assert not (tmp_path / "out/p.parquet").exists()


def test_an_archive_damaged_or_replaced_during_the_run_has_no_output(tmp_path: Path, rows: list[ImageResult]) -> None:
    target, source = Storage(tmp_path / "out"), Storage(tmp_path)
    planned = source.entry("p.parquet").identity
    ParquetSink(target).write(rows)
    archive = (tmp_path / "p.parquet").read_bytes()

    os.utime(tmp_path / "p.parquet", (1, 1))
    assert "changed while the job ran" in assemble(source, target, "p.parquet", OWN, planned).reason
    (tmp_path / "p.parquet").write_bytes(archive[:-20])
    assert assemble(source, target, "p.parquet", OWN).reason
    assert not (tmp_path / "out/p.parquet").exists()


def test_records_of_an_archive_have_the_output_location(tmp_path: Path, rows: list[ImageResult]) -> None:
    records = ParquetSink(Storage(tmp_path / "out")).write(rows[:2])

    assert [record.output for record in records] == ["", "p.parquet#1"]


def test_fragments_of_another_model_or_archive_version_are_ignored(tmp_path: Path, rows: list[ImageResult]) -> None:
    target = Storage(tmp_path / "out")
    others = [replace(item, record=replace(item.record, model_sha256="other"), data=b"other") for item in rows]
    ParquetSink(target).write(others)
    ParquetSink(target).write(rows)
    assemble(Storage(tmp_path), target, "p.parquet", OWN)

    check_joined(tmp_path)


def test_a_draft_is_published_under_its_name(tmp_path: Path) -> None:
    sink = FolderSink(Storage(tmp_path), threads=2)
    draft = sink.draft("1931/huge.tif")
    with draft.open() as file:
        file.write(b"whole")
    record = Record("1931/huge.tif", "1931/huge.tif")

    assert sink.write([ImageResult(record, draft)]) == [record]
    assert [path.name for path in (tmp_path / "1931").iterdir()] == ["huge.tif"]


def test_a_full_disk_stops_the_sink(tmp_path: Path) -> None:
    fault = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.tif")
    failed = ImageResult(Record("a.tif").failed("render_failed", ""), fault=fault)
    with pytest.raises(OSError, match="No space left"):
        FolderSink(Storage(tmp_path), threads=2).write([failed])
