"""Damaged archives: readable rows are read, and lost ones are reported. Without Ray."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from colorize.bulk.joining import assemble
from colorize.bulk.ledger.compaction import compact
from colorize.bulk.ledger.lost import Lost
from colorize.bulk.ledger.manifest import Record, write_part
from colorize.bulk.ledger.newest import read_manifest
from colorize.bulk.sinks import ImageResult, ParquetSink, fragments_of
from colorize.datasets.settings import SourceSettings
from colorize.datasets.sources import open_source
from colorize.storage import parquet_pages, parquet_repair
from colorize.storage.parquet import Archive
from colorize.storage.parquet_error import ParquetError
from colorize.storage.root import Storage

ROWS, GROUP = 40, 20  # of an archive, of a row group
IMAGES = [random.Random(i).randbytes(5000) for i in range(ROWS)]
SMALL_PAGES: dict[str, Any] = {"data_page_size": 20_000, "write_batch_size": 1}  # of four images
Broken = Callable[[str, int, float], bytes]


def table(struct: bool = True, **columns: Any) -> pa.Table:
    images = [{"bytes": image, "path": f"{i}.jpg"} for i, image in enumerate(IMAGES)] if struct else IMAGES
    ordinary = {
        "image": images,
        "caption": [f"No. {i}" for i in range(ROWS)],
        "tags": [[str(i), "x"] for i in range(ROWS)],
    }
    return pa.table(ordinary | columns)


def parquet(rows: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(rows, file, row_group_size=GROUP, **({"use_dictionary": False} | SMALL_PAGES | options))
    return file.getvalue()


def broken(data: bytes, column: str, place: float, group: int = 1) -> bytes:
    """The file with a few bytes overwritten, at this part of a column chunk's length."""
    metadata = pq.read_metadata(io.BytesIO(data)).row_group(group)
    chunks = [metadata.column(index) for index in range(metadata.num_columns)]
    (chunk,) = (chunk for chunk in chunks if chunk.path_in_schema == column)
    first = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    start = int(first + place * chunk.total_compressed_size)
    stop = min(start + 40, int(first + chunk.total_compressed_size))
    return data[:start] + b"\xff" * (stop - start) + data[stop:]


def read(data: bytes, *columns: str) -> tuple[list[dict[str, Any]], set[int]]:
    """The readable rows of the second row group, and its lost ones, numbered in the whole file."""
    archive = Archive(io.BytesIO(data))
    rows: list[dict[str, Any]] = []
    lost: set[int] = set()
    for batch, losses in archive.readable(1, columns or archive.schema.names, 1 << 20, 7):
        lost |= {GROUP + len(rows) + row for row in range(batch.num_rows) if losses.message(row)}
        rows += batch.to_pylist()
    return rows, lost


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "zstd"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("place", [0.3, 0.5, 0.9])
def test_a_damaged_page_loses_only_its_rows(codec: str, version: str, place: float) -> None:
    """Random images are stored uncompressed, so that an offset in the chunk identifies a row."""
    data = parquet(table(), compression=codec, data_page_version=version)
    damaged = next(
        bad for at in range(40) if read(bad := broken(data, "image.bytes", place + at / 1000), "image.bytes")[1]
    )
    rows, lost = read(damaged)

    assert 1 <= len(lost) <= 5
    assert int(GROUP + GROUP * place) in range(min(lost), max(lost) + 2)
    for number, (found, wanted) in enumerate(zip(rows, table().slice(GROUP).to_pylist(), strict=True), GROUP):
        if number not in lost:
            assert found == wanted
        assert found["caption"] == wanted["caption"]


def test_an_unreadable_page_header_loses_the_rest_of_the_column() -> None:
    """The next page's offset follows from the header of the one before."""
    rows, lost = read(broken(parquet(table()), "image.bytes", 0.0))

    assert lost == set(range(GROUP, ROWS))
    assert [row["caption"] for row in rows] == [f"No. {i}" for i in range(GROUP, ROWS)]
    assert [row["tags"] for row in rows] == [[str(i), "x"] for i in range(GROUP, ROWS)]


@pytest.mark.parametrize("column", ["tags.list.element", "number"])
def test_list_and_required_columns_are_lost_for_the_row_group(column: str) -> None:
    numbers = pa.array(range(ROWS), pa.int64())
    schema = table(number=numbers).schema
    index = schema.get_field_index("number")
    rows = table(number=numbers).cast(schema.set(index, schema.field(index).with_nullable(False)))
    found, lost = read(broken(parquet(rows, compression="none"), column, 0.0))

    assert lost == set(range(GROUP, ROWS))
    assert [row["image"]["bytes"] for row in found] == IMAGES[GROUP:]
    assert {row["tags" if column != "number" else "number"] is None for row in found} == {True}


def test_a_damaged_dictionary_loses_the_pages_that_use_it() -> None:
    """Arrow starts with a dictionary and continues without one when it has grown too large."""
    data = parquet(table(struct=False), use_dictionary=["image"], dictionary_pagesize_limit=40_000)
    rows, lost = read(broken(data, "image", 0.0), "image")
    assert lost == set(range(GROUP, ROWS))  # its header

    start = data.index(IMAGES[GROUP]) - 4  # the length of its first entry
    rows, lost = read(data[:start] + b"\xff" * 4 + data[start + 4 :], "image")
    assert GROUP in lost
    assert len(lost) < GROUP - 5
    assert all(row["image"] == IMAGES[number] for number, row in enumerate(rows, GROUP) if number not in lost)


def test_page_checksums_are_verified() -> None:
    """Without one a changed image reads well, and its decoder has to detect it."""
    for checked in (False, True):
        data = parquet(table(), compression="none", write_page_checksum=checked)
        at = data.index(IMAGES[30]) + 2500
        _, lost = read(data[:at] + b"?" + data[at + 1 :])
        assert (30 in lost) == checked
        assert len(lost) in ((3, 4, 5) if checked else (0,))


def test_missing_bytes_lose_what_follows() -> None:
    data = parquet(table(struct=False).select(["image"]))
    middle = len(data) // 2
    shortened = data[:middle] + data[middle + 3000 :]
    archive = Archive(io.BytesIO(shortened))
    first = [value for batch, _ in archive.readable(0, ["image"], 1 << 20, 7) for value in batch["image"].to_pylist()]
    assert sum(value == image for value, image in zip(first, IMAGES, strict=False)) >= 12
    assert len(first) == GROUP
    assert len(read(shortened)[1]) == GROUP


@pytest.mark.parametrize("tries", [3, 6, 500])
def test_the_search_for_bad_pages_is_bounded(tries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A malicious archive has very many of them."""
    monkeypatch.setattr(parquet_repair, "TRIES", tries)
    looked, real = [], Archive._reads

    def counted(archive: Archive, group: int, path: str) -> bool:
        looked.append(path)
        return real(archive, group, path)

    monkeypatch.setattr(Archive, "_reads", counted)
    data = parquet(table(struct=False), compression="none")
    for number in (21, 30, 38):
        at = data.index(IMAGES[number]) - 4
        data = data[:at] + b"\xff" * 4 + data[at + 4 :]
    rows, lost = read(data, "image")

    assert len(looked) <= tries + 2
    assert lost >= {21, 30, 38}
    assert len(lost) < 16 if tries == 500 else len(lost) >= 12
    assert all(row["image"] == IMAGES[number] for number, row in enumerate(rows, GROUP) if number not in lost)


def test_exceeding_a_size_limit_is_not_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_pages, "BOMB_BYTES", 10_000)
    data = parquet(pa.table({"image": [b"x" * 640_000] * ROWS}), compression="zstd")
    with pytest.raises(ParquetError) as fault:
        read(data)
    assert fault.value.code == "too_large"


def test_a_storage_error_is_not_damage() -> None:
    class Gone(io.BytesIO):
        fails = False

        def read(self, size: int | None = -1) -> bytes:
            if self.fails:
                raise ConnectionResetError(104, "Connection reset by peer")
            return super().read(size)

    file = Gone(parquet(table()))
    archive = Archive(file)
    file.fails = True
    with pytest.raises(ConnectionResetError):
        list(archive.readable(1, ["image"], 1 << 20))


def test_a_reader_yields_the_readable_rows(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(broken(parquet(table(), compression="none"), "image.bytes", 0.0, group=0))
    source = open_source(str(tmp_path), SourceSettings())
    raws = [raw for raws in source.reader.fetch(source.units) for raw in raws]

    assert [raw.row for raw in raws] == list(range(ROWS))
    assert {raw.error for raw in raws[:GROUP]} == {"corrupt_parquet"}
    assert [raw.data for raw in raws[GROUP:]] == IMAGES[GROUP:]


def test_an_unreadable_path_field_loses_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(broken(parquet(table()), "image.path", 0.0))
    source = open_source(str(tmp_path), SourceSettings())
    raws = [raw for raws in source.reader.fetch(source.units) for raw in raws]

    assert [raw.data for raw in raws] == IMAGES


OWN = fragments_of("a.parquet", "", "", "")


def joined(folder: Path, data: bytes, failed: range = range(0)) -> tuple[Lost, pa.Table]:
    """The output of a damaged archive whose `failed` rows the load stage could not read, and the lost rows."""
    (folder / "a.parquet").write_bytes(data)
    rows = [ImageResult(Record(f"a.parquet#{i}"), b"color", "a.parquet", i) for i in range(ROWS)]
    for i in failed:
        rows[i] = replace(rows[i], record=rows[i].record.failed("corrupt_parquet", ""), data=None)
    ParquetSink(Storage(folder / "out")).write(rows)
    lost = assemble(Storage(folder), Storage(folder / "out"), "a.parquet", OWN)
    return lost, pq.read_table(folder / "out/a.parquet")


def test_an_output_has_every_readable_row_in_its_place(tmp_path: Path) -> None:
    gone = range(GROUP, ROWS)
    lost, after = joined(tmp_path, broken(parquet(table()), "image.bytes", 0.0), failed=gone)

    before = table()
    assert after.slice(0, GROUP).select(before.column_names).equals(before.slice(0, GROUP))
    assert after.select(["caption", "tags"]).equals(before.select(["caption", "tags"]))
    assert after["status"].to_pylist() == ["ok"] * GROUP + ["failed"] * GROUP
    assert after["error"].to_pylist() == [""] * GROUP + ["corrupt_parquet"] * GROUP
    assert after["colorized"].to_pylist() == [b"color"] * GROUP + [None] * GROUP
    assert [(first, last) for first, last, _ in lost.rows] == [(GROUP, ROWS)]


def test_a_row_that_lost_another_column_fails_uncolored(tmp_path: Path) -> None:
    """Readers of `colorized` may rely on it: every value belongs to a complete row."""
    lost, after = joined(tmp_path, broken(parquet(table()), "caption", 0.0))

    assert after["colorized"].to_pylist() == [b"color"] * GROUP + [None] * GROUP
    assert after["caption"].to_pylist() == [f"No. {i}" for i in range(GROUP)] + [None] * GROUP
    assert after["status"].to_pylist() == ["ok"] * GROUP + ["failed"] * GROUP
    assert after["error"].to_pylist() == [""] * GROUP + ["archive_unreadable"] * GROUP
    ((first, last, message),) = lost.rows
    assert (first, last) == (GROUP, ROWS)
    assert message == "column 'caption' cannot be read in this row: a page of column 'caption' has a damaged header"


def test_columns_of_every_kind_can_be_lost(tmp_path: Path) -> None:
    uuid = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes([i]) * 16 for i in range(ROWS)], pa.binary(16)))
    more = {
        "uuid": uuid,
        "said": pa.array([[("a", i)] for i in range(ROWS)], pa.map_(pa.string(), pa.int32())),
        "box": pa.array([[1.0, 2.0]] * ROWS, pa.list_(pa.float32(), 2)),
        "place": pa.array(["Köln"] * ROWS).dictionary_encode(),
        "required": pa.array(range(ROWS)),
    }
    rows = table(**more)
    index = rows.schema.get_field_index("required")
    rows = rows.cast(rows.schema.set(index, rows.schema.field(index).with_nullable(False)))
    data = parquet(rows)
    paths = [pq.read_metadata(io.BytesIO(data)).row_group(1).column(i).path_in_schema for i in range(10)]
    for path in paths:
        data = broken(data, path, 0.0)
    lost, after = joined(tmp_path, data)

    assert [(first, last) for first, last, _ in lost.rows] == [(GROUP, ROWS)]
    assert after.slice(0, GROUP).select(rows.column_names).cast(rows.schema).equals(rows.slice(0, GROUP))
    for name in more:
        assert after.slice(GROUP)[name].null_count == GROUP, name


def test_the_manifest_names_the_lost_rows(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    records = [Record(f"a.parquet#{i}", f"a.parquet#{i}", run=1) for i in range(4)]
    skipped = replace(records[3], status="skipped", error="already_color", output="")
    write_part(storage, [*records[:2], records[2].failed("corrupt_parquet", ""), skipped])
    lost = Lost()
    lost.add(0, ["", "column 'x'", "column 'x'", "column 'x'"])
    found = compact(storage, 2, 10, {"a.parquet": lost})

    rows = {row["path"][-1]: (row["status"], row["error"], row["output"]) for row in read_manifest(storage).to_pylist()}
    assert rows == {
        "0": ("ok", "", "a.parquet#0"),
        "1": ("failed", "archive_unreadable", ""),
        "2": ("failed", "corrupt_parquet", ""),
        "3": ("failed", "archive_unreadable", ""),
    }
    assert found.lost_earlier == {("ok", ""): 1, ("skipped", "already_color"): 1}
