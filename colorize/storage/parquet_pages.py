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

BOMB_BYTES = 512 << 20  # a page, or a column of lists, that becomes more than this in memory is refused ...
VALUE_BYTES = 128 << 20  # and so is a value, of which there are eight copies before it is an image ...
BOMB_RATIO = 8  # ... where it is also so many times what the file holds of it
HEADER_BYTES = (4 << 10, 64 << 10, 16 << 20)  # tried for a page header, which may hold a smallest and a largest value
MAX_WALKED = 1_000_000  # values of a page that are looked at one by one
ENTRY_BYTES = 16  # of an entry of a dictionary beside its content: where it lies, and its length
MAX_PAGES = 100_000  # of a column chunk
LEVEL_BYTES = 16  # of each value, for its place in lists, its offset and whether it is there
PADDING = 100  # bytes that old writers left out of a chunk's length: see PARQUET-816

DATA, DICTIONARY, DATA_V2 = 0, 2, 3  # kinds of pages
PLAIN = 0
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
    """A page by its header.

    Attributes:
        kind: data or a dictionary.
        unpacked: bytes of it.
        packed: bytes of it in the file.
        values: how many, nulls included.
        encoding: of the values.
        start: where its data begins in the file.
        levels: bytes ahead of the values, which are never packed; None for a page that packs them with these.
    """

    kind: int
    unpacked: int
    packed: int
    values: int
    encoding: int
    start: int
    levels: int | None


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
    average = pages = lists = longest = 0
    for page in _pages(file, chunk):
        if page.kind == DICTIONARY:
            value = max(value, _longest_entry(file, page, chunk) if is_text else 0)
        elif is_text and page.encoding == DELTA_BYTE_ARRAY:  # each value may begin with all of the one before
            value = max(value, page.unpacked)
        elif is_text and page.encoding not in (PLAIN_DICTIONARY, RLE_DICTIONARY):
            average, pages = max(average, page.unpacked // max(page.values, 1)), pages + page.unpacked
            longest = max(longest, _longest_of_page(file, page, chunk, leaf))
        lists += page.values * (value + LEVEL_BYTES) + page.unpacked
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
            f"column {chunk.path!r} holds {what}, packed in {held}; at most {most} are unpacked: "
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
        size = page.unpacked + (page.values * ENTRY_BYTES if page.kind == DICTIONARY else 0)
        _refuse_bomb(chunk, f"a page of {size} bytes", size, page.packed)
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
    levels: list[Any] = [inner.get(5), inner.get(6)] if 8 in header else []
    if not all(isinstance(length, int) and 0 <= length <= header[3] for length in levels):
        raise _broken(chunk)
    numbers.append(sum(levels) if 8 in header else None)
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
    data = _unpacked(file, page, chunk)
    return page.unpacked if data is None else _longest(data, 0, page)


def _longest_of_page(file: CachedRanges, page: Page, chunk: Chunk, leaf: pq.ColumnSchema) -> int:
    """Bytes of the longest of a page's byte strings, at most. Only a page that may be a bomb of one value is unpacked.

    A small one is taken for one value, and so is one that is not packed.
    """
    if page.unpacked <= max(VALUE_BYTES, BOMB_RATIO * page.packed) or page.encoding != PLAIN:
        return page.unpacked
    if (data := _unpacked(file, page, chunk)) is None:
        return page.unpacked
    position = 0
    for level in (leaf.max_repetition_level, leaf.max_definition_level) if page.levels is None else ():
        position += 4 + int.from_bytes(data[position : position + 4], "little") if level else 0
    return _longest(data, position, page)


def _longest(data: memoryview, position: int, page: Page) -> int:
    """Bytes of the longest string from `position` on, at most: each one's length stands before it."""
    longest = 0
    for _ in range(min(page.values, MAX_WALKED)):
        if position + 4 > len(data):
            return min(longest, page.unpacked)  # Arrow says what is wrong with it
        length = int.from_bytes(data[position : position + 4], "little")
        longest = max(longest, length)
        position += 4 + length
    rest = len(data) - position if page.values > MAX_WALKED else 0
    return min(max(longest, rest), page.unpacked)


def _unpacked(file: CachedRanges, page: Page, chunk: Chunk) -> memoryview | None:
    """The values of a page; None where only Arrow's reader can tell them, or what is wrong with them."""
    file.seek(page.start)
    levels = page.levels or 0
    data = file.read(page.packed)[levels:]
    if not chunk.is_packed:
        return memoryview(data)
    if not chunk.codec:
        return None
    try:
        return memoryview(pa.Codec(chunk.codec).decompress(data, page.unpacked - levels))
    except (OSError, pa.ArrowException):
        return None
