"""The size of a Parquet column before it is read: files of a few kilobytes that would fill the memory."""

from __future__ import annotations

import io
import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from colorize.storage import parquet_pages
from colorize.storage.cached_ranges import CachedRanges
from colorize.storage.parquet import Archive, read_table
from colorize.storage.parquet_error import ParquetError
from colorize.storage.parquet_footer import column_chunks, read_footer
from colorize.storage.parquet_pages import Size, chunk_size
from colorize.storage.thrift import CompactReader, ThriftError

VALUE = b"x" * 640_000
PLAIN: dict[str, Any] = {"use_dictionary": False}
DELTA: dict[str, Any] = {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"}


def parquet(column: Any, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    pq.write_table(pa.table({"image": column}), file, compression="zstd", **options)
    return file


def size_of(file: io.BytesIO) -> Size:
    parsed = pq.ParquetFile(file)
    chunk = column_chunks(read_footer(file))[0][0]
    return chunk_size(CachedRanges(file), chunk, parsed.schema.column(0), parsed.metadata.num_rows)


def largest_batch(file: io.BytesIO, held: int) -> int:
    sizes: list[int] = [batch.nbytes for _, batch in Archive(file).all_batches(["image"], held)]
    return max(sizes)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
def test_a_dictionary_is_counted_for_each_row_that_repeats_it(codec: str, version: str) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"image": [b"a", VALUE] * 20}), file, compression=codec, data_page_version=version)
    size = size_of(file)

    assert (size.value, size.pages) == (len(VALUE), 0)
    assert size.of_rows(10) >= 10 * len(VALUE)


@pytest.mark.parametrize("options", [{}, DELTA], ids=["dictionary", "delta"])
def test_a_highly_compressed_kilobyte_is_read_in_small_batches(options: dict[str, Any]) -> None:
    file = parquet([VALUE] * 200, **options)
    assert len(file.getvalue()) < 2000
    assert largest_batch(file, 4 << 20) <= 4 << 20


def test_a_page_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_pages, "BOMB_BYTES", 10 << 20)
    file = parquet([VALUE] * 20, **PLAIN)
    with pytest.raises(ParquetError, match=r"column 'image' has a page of 128\d+ bytes, compressed to") as fault:
        largest_batch(file, 1 << 20)
    assert fault.value.code == "too_large"


def test_a_large_page_that_is_not_a_bomb_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dictionary of incompressible images."""
    monkeypatch.setattr(parquet_pages, "BOMB_BYTES", 100_000)
    images = [random.Random(i).randbytes(10_000) for i in range(100)]
    assert size_of(parquet(images)).value == 10_000
    assert largest_batch(parquet(images), 1 << 20) > 100_000


NESTED: dict[str, Any] = {
    "value": lambda values: values,
    "struct": lambda values: [{"bytes": value, "path": "a.jpg"} for value in values],
    "list": lambda values: [[value] for value in values],
    "null beside": lambda values: [None, *values, None],
}


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("options", [{}, PLAIN, DELTA], ids=["dictionary", "plain", "delta"])
@pytest.mark.parametrize("place", NESTED)
def test_a_value_decompression_bomb_is_refused(
    place: str, options: dict[str, Any], version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One value is copied eight times before it is an image, a page of many only once."""
    monkeypatch.setattr(parquet_pages, "VALUE_BYTES", 1 << 20)
    bomb = parquet(NESTED[place]([b"small"] * 500 + [VALUE * 2]), data_page_version=version, **options)
    with pytest.raises(ParquetError, match=r"column 'image.*' has values of \d+ bytes") as fault:
        largest_batch(bomb, 1 << 20)
    assert fault.value.code == "too_large"

    if options != DELTA:  # where any value may start with all of the others
        page = parquet(NESTED[place]([VALUE] * 20 + [b"small"] * 500), data_page_version=version, **options)
        assert largest_batch(page, 1 << 20)


def test_a_page_of_many_values_is_not_scanned_completely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_pages, "VALUE_BYTES", 50_000)
    assert largest_batch(parquet([b""] * 100_000, data_page_size=1 << 30, **PLAIN), 1 << 20)
    monkeypatch.setattr(parquet_pages, "MAX_WALKED", 10)
    with pytest.raises(ParquetError, match="has values of"):  # as far as has been read
        largest_batch(parquet([b""] * 100_000, data_page_size=1 << 30, **PLAIN), 1 << 20)


def test_dictionary_entries_count_their_overhead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_pages, "BOMB_BYTES", 500_000)
    many = parquet(pa.array([f"{i:06}" for i in range(30_000)]), dictionary_pagesize_limit=1 << 30)
    assert many.getvalue()
    with pytest.raises(ParquetError, match="has a page of 780000 bytes"):
        largest_batch(many, 1 << 20)


def test_lists_of_one_row_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_pages, "BOMB_BYTES", 10 << 20)
    few, many = parquet([[VALUE] * 10]), parquet([[VALUE] * 100])
    assert largest_batch(few, 1 << 20) > 6_000_000
    for bomb in (many, parquet([[0] * 3_000_000])):
        with pytest.raises(ParquetError, match=r"has lists of \d+ bytes together"):
            largest_batch(bomb, 1 << 20)


def test_rows_of_the_usual_size_are_read_many_at_once() -> None:
    names = [f"archive/box {i // 100}/scan {i:06}.jpg" for i in range(50_000)]
    batches = list(Archive(parquet(names)).all_batches(["image"], 64 << 20))
    assert [batch.num_rows for _, batch in batches] == [50_000]


def test_a_table_has_a_limit() -> None:
    schema = pa.schema([("image", pa.large_binary())])
    file = parquet([VALUE] * 20)
    assert read_table(file, schema, most=20 << 20).num_rows == 20
    with pytest.raises(ParquetError, match="the table has more than 1000000 bytes"):
        read_table(file, schema, most=1_000_000)


def test_a_broken_page_header_is_an_error_of_the_file() -> None:
    file = parquet([VALUE] * 2)
    start = 4
    for junk in (b"\xff" * 20, b"\x15\x00" * 10, b"\x00" * 20):
        data = bytearray(file.getvalue())
        data[start : start + len(junk)] = junk
        with pytest.raises(ParquetError, match="damaged header"):
            largest_batch(io.BytesIO(bytes(data)), 1 << 20)


def test_too_many_pages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_pages, "MAX_PAGES", 3)
    file = parquet([bytes([i]) * 1000 for i in range(50)], data_page_size=1000, write_batch_size=1, **PLAIN)
    with pytest.raises(ParquetError, match="more than 3 pages"):
        size_of(file)


class Remote(io.BytesIO):
    """A file that counts the bytes fetched."""

    fetched = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.fetched += len(data)
        return data


class Unbuffered(io.RawIOBase):
    """Stands in for a file in a bucket."""

    def __init__(self, data: bytes) -> None:
        self.inner = Remote(data)

    def read(self, size: int = -1) -> bytes:
        return self.inner.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.inner.seek(offset, whence)


def test_a_column_of_a_remote_file_is_fetched_once() -> None:
    images = [bytes([i]) * 10_000 for i in range(200)]
    file = io.BytesIO()
    pq.write_table(pa.table({"image": images, "other": images}), file, compression="none")
    remote = Unbuffered(file.getvalue())
    batches = list(Archive(remote).all_batches(["image"], 1 << 20))  # type: ignore[arg-type]

    assert [value for _, batch in batches for value in batch.column(0).to_pylist()] == images
    assert len(file.getvalue()) > 4_000_000
    assert remote.inner.fetched < 2_100_000


def test_cached_ranges_read_like_the_file() -> None:
    data = bytes(range(256)) * 10
    held = CachedRanges(Unbuffered(data))  # type: ignore[arg-type]
    held.prefetch([(100, 50), (1000, 500)])
    for start, size in [(0, 10), (90, 30), (110, 20), (149, 1), (149, 2), (1000, 500), (2550, 100), (9000, 1)]:
        held.seek(start)
        assert held.read(size) == data[start : start + size]
        assert held.tell() == min(start + size, max(len(data), start))
    assert (held.seek(-5, io.SEEK_END), held.read()) == (len(data) - 5, data[-5:])


def test_thrift_structures_are_parsed_strictly() -> None:
    data = (
        bytes([0x15, 0x04, 0x18, 0x03]) + b"abc" + bytes([0x11, 0x1C, 0x15, 0x01, 0x00, 0x29, 0x25, 0x02, 0x04, 0x00])
    )
    reader = CompactReader(data + b"rest")
    assert reader.struct() == {1: 2, 2: b"abc", 3: True, 4: {1: -1}, 6: [1, 2]}
    assert reader.position == len(data)

    twice = bytes([0x15, 0x04, 0x05, 0x02, 0x04, 0x00])
    for broken in (data[:-1], twice, b"\x1c" * 20, b"\x1e\x00", b"\x19\xf5\xff\xff\xff\x7f", b"\x15" + b"\xff" * 12):
        with pytest.raises(ThriftError):
            CompactReader(broken).struct()
