"""Estimates the memory of a Parquet column from its page headers, because a kilobyte can expand to a gigabyte.

Dictionaries store a value once, and rows refer to it with a few bits; compression has a similar effect. Therefore all
pages of a column chunk are checked before it is read.
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

BOMB_BYTES = 512 << 20  # maximum size of a page, or of a column of lists, in memory,
VALUE_BYTES = 128 << 20  # and of a value, of which there are eight copies while it is decoded;
BOMB_RATIO = 8  # both only apply if the ratio to the compressed size is larger than this
HEADER_BYTES = (4 << 10, 64 << 10, 16 << 20)  # sizes to try for a page header, which may have long statistics
MAX_WALKED = 1_000_000  # maximum number of values of a page that are checked individually
ENTRY_BYTES = 16  # overhead of a dictionary entry: offset and length
MAX_PAGES = 100_000  # of a column chunk
LEVEL_BYTES = 16  # overhead of a value: levels, offset and validity
PADDING = 100  # bytes that old writers omitted from a chunk's length: see PARQUET-816

DATA, DICTIONARY, DATA_V2 = 0, 2, 3  # page types
PLAIN = 0
PLAIN_DICTIONARY, DELTA_BYTE_ARRAY, RLE_DICTIONARY = 2, 7, 8  # encodings
WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}


@dataclass(frozen=True)
class Size:
    """The size of a column chunk in memory.

    Attributes:
        rows: of the row group.
        value: maximum size of a value in dictionary- or delta-encoded pages.
        average: maximum over the other pages of the average size of a value.
        pages: total size of the other pages.
        lists: maximum size of all values of a column in lists, where a row may have any number of them; else 0.
    """

    rows: int
    value: int
    average: int
    pages: int
    lists: int

    def of_rows(self, count: int) -> int:
        """Approximate maximum size of `count` rows."""
        if self.lists:
            return self.lists * count // max(self.rows, 1)
        return count * (self.value + LEVEL_BYTES) + min(count * self.average, self.pages)


@dataclass(frozen=True)
class Page:
    """The header of a page.

    Attributes:
        kind: page type.
        uncompressed: size in bytes.
        compressed: size in the file.
        values: number of values, including nulls.
        encoding: of the values.
        start: offset of its data in the file.
        levels: size of the uncompressed levels before the values in version 2; None in version 1.
    """

    kind: int
    uncompressed: int
    compressed: int
    values: int
    encoding: int
    start: int
    levels: int | None


def chunk_size(file: CachedRanges, chunk: Chunk, leaf: pq.ColumnSchema, rows: int) -> Size:
    """Checks all pages of a column chunk and returns its size in memory.

    Args:
        file: the Parquet file.
        chunk: the column chunk.
        leaf: the column's schema.
        rows: of the row group.

    Raises:
        ParquetError: damaged pages (`corrupt_parquet`), or a decompression bomb (`too_large`).
    """
    value = leaf.length if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY" else WIDTHS.get(leaf.physical_type, 0)
    is_text = leaf.physical_type == "BYTE_ARRAY"
    average = pages = lists = longest = 0
    for page in _pages(file, chunk):
        if page.kind == DICTIONARY:
            value = max(value, _longest_entry(file, page, chunk) if is_text else 0)
        elif is_text and page.encoding == DELTA_BYTE_ARRAY:  # a value may contain all of the previous one
            value = max(value, page.uncompressed)
        elif is_text and page.encoding not in (PLAIN_DICTIONARY, RLE_DICTIONARY):
            average, pages = max(average, page.uncompressed // max(page.values, 1)), pages + page.uncompressed
            longest = max(longest, _longest_of_page(file, page, chunk, leaf))
        lists += page.values * (value + LEVEL_BYTES) + page.uncompressed
    longest = max(longest, value)
    _refuse_bomb(chunk, f"values of {longest} bytes", longest, chunk.length, VALUE_BYTES)
    if not leaf.max_repetition_level:
        return Size(rows, value, average, pages, 0)
    _refuse_bomb(chunk, f"lists of {lists} bytes together", lists, chunk.length)
    return Size(rows, value, average, pages, lists)


def _refuse_bomb(chunk: Chunk, what: str, size: int, held: int, most: int | None = None) -> None:
    most = BOMB_BYTES if most is None else most
    if size > most and size > BOMB_RATIO * held:
        message = (
            f"column {chunk.path!r} has {what}, compressed to {held}; at most {most} are decompressed: "
            "write the archive with smaller pages and row groups"
        )
        raise ParquetError(message, "too_large")


def _pages(file: CachedRanges, chunk: Chunk) -> Iterator[Page]:
    """The pages that Arrow will read, until the number of the chunk's values is reached."""
    position, end, remaining = chunk.start, chunk.start + chunk.length + PADDING, chunk.values
    for _ in range(MAX_PAGES):
        if remaining <= 0 or position >= end:
            return
        page = page_at(file, position, chunk)
        size = page.uncompressed + (page.values * ENTRY_BYTES if page.kind == DICTIONARY else 0)
        _refuse_bomb(chunk, f"a page of {size} bytes", size, page.compressed)
        position = page.start + page.compressed
        if position > end:
            raise _broken(chunk)
        remaining -= page.values if page.kind != DICTIONARY else 0
        yield page
    raise ParquetError(f"column {chunk.path!r} has more than {MAX_PAGES} pages in a row group", "too_large")


def _broken(chunk: Chunk) -> ParquetError:
    return ParquetError(f"a page of column {chunk.path!r} has a damaged header")


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
    levels: list[Any] = [inner.get(5), inner.get(6)] if 8 in header else []
    if not all(isinstance(length, int) and 0 <= length <= header[3] for length in levels):
        raise _broken(chunk)
    numbers.append(sum(levels) if 8 in header else None)
    return Page(*numbers)


def _header(file: CachedRanges, position: int, chunk: Chunk) -> tuple[dict[int, Any], int]:
    """The fields of the header at `position`, and its length."""
    for size in HEADER_BYTES:
        file.seek(position)
        data = file.read(size)
        reader = CompactReader(data)
        with suppress(ThriftError):  # the header may be longer
            return reader.struct(), reader.position
        if len(data) < size:
            break
    raise _broken(chunk)


def _longest_entry(file: CachedRanges, page: Page, chunk: Chunk) -> int:
    """Size of the longest entry of a dictionary of byte strings."""
    data = _decompressed(file, page, chunk)
    return page.uncompressed if data is None else _longest(data, 0, page)


def _longest_of_page(file: CachedRanges, page: Page, chunk: Chunk, leaf: pq.ColumnSchema) -> int:
    """Upper bound of the size of a page's longest byte string.

    That is the size of the page, unless this would be a bomb: then the page is decompressed to find out.
    """
    if page.uncompressed <= max(VALUE_BYTES, BOMB_RATIO * page.compressed) or page.encoding != PLAIN:
        return page.uncompressed
    if (data := _decompressed(file, page, chunk)) is None:
        return page.uncompressed
    position = 0
    for level in (leaf.max_repetition_level, leaf.max_definition_level) if page.levels is None else ():
        position += 4 + int.from_bytes(data[position : position + 4], "little") if level else 0
    return _longest(data, position, page)


def _longest(data: memoryview, position: int, page: Page) -> int:
    """Upper bound of the longest string from `position` on, in plain encoding (length, bytes)."""
    longest = 0
    for _ in range(min(page.values, MAX_WALKED)):
        if position + 4 > len(data):
            return min(longest, page.uncompressed)  # damaged: reading it will report the error
        length = int.from_bytes(data[position : position + 4], "little")
        longest = max(longest, length)
        position += 4 + length
    rest = len(data) - position if page.values > MAX_WALKED else 0
    return min(max(longest, rest), page.uncompressed)


def _decompressed(file: CachedRanges, page: Page, chunk: Chunk) -> memoryview | None:
    """The decompressed values of a page; None if Arrow has no codec for them, or they are damaged."""
    file.seek(page.start)
    levels = page.levels or 0
    data = file.read(page.compressed)[levels:]
    if not chunk.is_compressed:
        return memoryview(data)
    if not chunk.codec:
        return None
    try:
        return memoryview(pa.Codec(chunk.codec).decompress(data, page.uncompressed - levels))
    except (OSError, pa.ArrowException):
        return None
