"""What a Parquet column comes to in memory, by its pages' headers: a file of a kilobyte can hold a gigabyte.

A page of a dictionary says a value once and its rows repeat it with a few bits each; compression does the same to any
page. So a column chunk is looked at, page by page, before it is read.
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from colorize.storage.cached_ranges import CachedRanges
from colorize.storage.parquet_error import ParquetError
from colorize.storage.parquet_footer import Chunk
from colorize.storage.thrift import CompactReader, ThriftError

BOMB_BYTES = 512 << 20  # a page, or a value, or a column of lists, that becomes more than this in memory is refused ...
BOMB_RATIO = 8  # ... where it is also so many times what the file holds of it
HEADER_BYTES = (4 << 10, 64 << 10, 16 << 20)  # tried for a page header, which may hold a smallest and a largest value
MAX_PAGES = 100_000  # of a column chunk
LEVEL_BYTES = 16  # of each value, for its place in lists, its offset and whether it is there
PADDING = 100  # bytes that old writers left out of a chunk's length: see PARQUET-816

DATA, DICTIONARY, DATA_V2 = 0, 2, 3  # kinds of pages
PLAIN_DICTIONARY, DELTA_BYTE_ARRAY, RLE_DICTIONARY = 2, 7, 8  # encodings
WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}


@dataclass(frozen=True)
class Size:
    """What a column chunk comes to when it is read.

    Attributes:
        rows: of the row group.
        value: bytes of one value, at most, of those that pages name by less than their own length.
        average: bytes of a value of those at their full length, in the page where they are largest.
        pages: bytes of all pages with such values.
        lists: bytes of all values, at most, where any number of them may be one row's; else 0.
    """

    rows: int
    value: int
    average: int
    pages: int
    lists: int

    def of_rows(self, count: int) -> int:
        """Bytes that so many rows come to: with one more page at most; of lists about."""
        if self.lists:
            return self.lists * count // max(self.rows, 1)
        return count * (self.value + LEVEL_BYTES) + min(count * self.average, self.pages)


@dataclass(frozen=True)
class Page:
    """A page by its header: its kind, sizes in bytes, how many values of which encoding, where its data begins."""

    kind: int
    unpacked: int
    packed: int
    values: int
    encoding: int
    start: int


def chunk_size(file: CachedRanges, chunk: Chunk, leaf: pq.ColumnSchema, rows: int) -> Size:
    """Looks at the pages of a column chunk.

    Args:
        file: that holds it.
        chunk: the column in one row group.
        leaf: the column in the schema.
        rows: of the row group.

    Raises:
        ParquetError: they are broken (`corrupt_parquet`), or become far more than the file holds (`too_large`).
    """
    value = leaf.length if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY" else WIDTHS.get(leaf.physical_type, 0)
    is_text = leaf.physical_type == "BYTE_ARRAY"
    average = pages = lists = 0
    for page in _pages(file, chunk):
        if page.kind == DICTIONARY:
            value = max(value, _longest_entry(file, page, chunk) if is_text else 0)
        elif is_text and page.encoding == DELTA_BYTE_ARRAY:  # each value may begin with all of the one before
            value = max(value, page.unpacked)
        elif is_text and page.encoding not in (PLAIN_DICTIONARY, RLE_DICTIONARY):
            average, pages = max(average, page.unpacked // max(page.values, 1)), pages + page.unpacked
        lists += page.values * (value + LEVEL_BYTES) + page.unpacked
    _refuse_bomb(chunk, f"values of {value} bytes", value, chunk.length)
    if not leaf.max_repetition_level:
        return Size(rows, value, average, pages, 0)
    _refuse_bomb(chunk, f"lists of {lists} bytes together", lists, chunk.length)
    return Size(rows, value, average, pages, lists)


def _refuse_bomb(chunk: Chunk, what: str, size: int, held: int) -> None:
    if size > BOMB_BYTES and size > BOMB_RATIO * held:
        message = (
            f"column {chunk.path!r} holds {what}, packed in {held}; at most {BOMB_BYTES} are unpacked: "
            "write the archive with smaller pages and row groups"
        )
        raise ParquetError(message, "too_large")


def _pages(file: CachedRanges, chunk: Chunk) -> Iterator[Page]:
    """The pages that Arrow will read: as many as it takes for the values that the chunk says it has."""
    position, end, left = chunk.start, chunk.start + chunk.length + PADDING, chunk.values
    for _ in range(MAX_PAGES):
        if left <= 0 or position >= end:
            return
        page = page_at(file, position, chunk)
        _refuse_bomb(chunk, f"a page of {page.unpacked} bytes", page.unpacked, page.packed)
        position = page.start + page.packed
        if position > end:
            raise _broken(chunk)
        left -= page.values if page.kind != DICTIONARY else 0
        yield page
    raise ParquetError(f"column {chunk.path!r} has more than {MAX_PAGES} pages in a row group", "too_large")


def _broken(chunk: Chunk) -> ParquetError:
    return ParquetError(f"a page of column {chunk.path!r} has a broken header")


def page_at(file: CachedRanges, position: int, chunk: Chunk) -> Page:
    header, length = _header(file, position, chunk)
    inner: Any = next(
        (header[field] for field in (5, 7, 8) if field in header), {}
    )  # data, dictionary, data of version 2
    if not isinstance(inner, dict):
        raise _broken(chunk)
    encoding = inner.get(4 if 8 in header else 2, 0)
    numbers: list[Any] = [header.get(1), header.get(2), header.get(3), inner.get(1, 0), encoding, position + length]
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise _broken(chunk)
    return Page(*numbers)


def _header(file: CachedRanges, position: int, chunk: Chunk) -> tuple[dict[int, Any], int]:
    """The fields of the header that begins at `position`, and its length."""
    for size in HEADER_BYTES:
        file.seek(position)
        data = file.read(size)
        reader = CompactReader(data)
        with suppress(ThriftError):  # it may be longer
            return reader.struct(), reader.position
        if len(data) < size:
            break
    raise _broken(chunk)


def _longest_entry(file: CachedRanges, page: Page, chunk: Chunk) -> int:
    """Bytes of the longest entry of a dictionary of byte strings: each one's length stands before it."""
    file.seek(page.start)
    data = _unpacked(file.read(page.packed), page, chunk)
    if data is None:
        return page.unpacked
    longest = position = 0
    for _ in range(page.values):
        if position + 4 > len(data):
            break  # Arrow says what is wrong with it
        length = int.from_bytes(data[position : position + 4], "little")
        longest = max(longest, length)
        position += 4 + length
    return min(longest, page.unpacked)


def _unpacked(data: bytes, page: Page, chunk: Chunk) -> memoryview | None:
    """The content of a page; None where only Arrow's reader can tell it, or what is wrong with it."""
    if not chunk.is_packed:
        return memoryview(data)
    if not chunk.codec:
        return None
    try:
        return memoryview(pa.Codec(chunk.codec).decompress(data, page.unpacked))
    except (OSError, pa.ArrowException):
        return None
