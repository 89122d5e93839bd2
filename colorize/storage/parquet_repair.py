"""Makes the undamaged pages of a column chunk readable: finds bad pages by bisection and overlays pages of nulls.

Arrow stops at the first page that it cannot read, and a page is the smallest unit that can be replaced. The
replacement is an uncompressed data page of version 2: a header of about twenty bytes and one run of levels, written
over the beginning of the bad pages; the remaining bytes are ignored.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pyarrow.parquet as pq

from colorize.storage.cached_ranges import CachedRanges
from colorize.storage.parquet_error import CORRUPT, ParquetError
from colorize.storage.parquet_footer import Chunk
from colorize.storage.parquet_pages import DATA_V2, DICTIONARY, page_at

TRIES = 500  # maximum reads of a damaged column chunk; ranges not bisected by then are lost as a whole
JOINED_BYTES = 16 << 20  # maximum size of a page of nulls, which Arrow reads into memory
INT, STRUCT, FALSE = 0x15, 0x5C, 0x12  # field headers of the compact protocol: id delta (1, 5, 1) and type


@dataclass(frozen=True)
class Span:
    """Consecutive pages: their offsets in the file, and their rows."""

    start: int
    stop: int
    first: int
    rows: int

    def with_next(self, span: Span) -> Span:
        """This span joined with the following one."""
        return replace(self, stop=span.stop, rows=self.rows + span.rows)

    def nulls(self) -> tuple[int, bytes] | None:
        """An overlay (offset, bytes) that makes these rows null, or None if there is not enough space.

        Only for nullable columns outside of lists.
        """
        levels = _varint(self.rows << 1) + b"\x00"
        body = self.stop - self.start
        for _ in range(8):  # iterate, because the header's length depends on the body's length in it
            header = _header(body, self.rows, len(levels))
            if len(header) + body == self.stop - self.start:
                return (self.start, header + levels) if len(levels) <= body else None
            body = max(self.stop - self.start - len(header), 0)
        return None


@dataclass
class Losses:
    """The unreadable values of some rows.

    Attributes:
        rows: number of rows.
        reason: the first error.
        lost: unreadable rows (first, end) by column.
        whole: columns that cannot be read at all.
    """

    rows: int
    reason: str = ""
    lost: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)

    def add(self, column: str, spans: Sequence[Span] | None) -> None:
        """Adds a damaged column; `spans` is None if it cannot be read at all."""
        if spans is None:
            self.whole.add(column)
        places = [(span.first, span.first + span.rows) for span in spans or ()] or [(0, self.rows)]
        self.lost.setdefault(column, []).extend(places)

    def of(self, first: int, last: int) -> Losses:
        """The losses of rows `first` to `last`, renumbered from 0."""
        moved = {name: [(a - first, b - first) for a, b in places] for name, places in self.lost.items()}
        return Losses(last - first, self.reason, moved, self.whole)

    def message(self, row: int, columns: Sequence[str] | None = None) -> str:
        """Which of the columns (None: all) cannot be read in a row, and why; "" for none."""
        named = [
            repr(name)
            for name, places in self.lost.items()
            if (columns is None or name in columns) and any(first <= row < last for first, last in places)
        ]
        return f"column {', '.join(named)} cannot be read in this row: {self.reason}" if named else ""


def repair(file: CachedRanges, chunk: Chunk, leaf: pq.ColumnSchema, reads: Callable[[], bool]) -> list[Span] | None:
    """Overlays the unreadable pages of a column chunk with nulls.

    Args:
        file: receives the overlays; the underlying file is not changed.
        chunk: the column chunk.
        leaf: the column's schema.
        reads: returns whether the chunk can be read with the current overlays.

    Returns:
        The lost rows, or None if the chunk cannot be repaired: the column is in a list or not nullable, or the pages
        do not add up.

    Raises:
        ParquetError: a page is a decompression bomb (`too_large`).
    """
    spans = _spans(file, chunk) if leaf.max_definition_level and not leaf.max_repetition_level else []
    if sum(span.rows for span in spans) != chunk.values or not spans:
        return None

    tries = 0

    def read_without(*bad: tuple[int, int]) -> bool:
        nonlocal tries
        tries += 1
        file.overlay(chunk.start, [nulls for run in bad for span in _joined(spans, *run) if (nulls := span.nulls())])
        return reads()

    def find_bad(first: int, last: int) -> list[tuple[int, int]]:
        if tries >= TRIES:
            return [(first, last)]
        if read_without((0, first), (last, len(spans))):
            return []
        half = (first + last) // 2
        return [*find_bad(first, half), *find_bad(half, last)] if half > first else [(first, last)]

    everything = (0, len(spans))
    if not read_without(everything):  # the dictionary before them is damaged
        spans[0] = replace(spans[0], start=chunk.start)
    found = find_bad(*everything) if read_without(everything) else [everything]
    if read_without(*found):
        return [span for run in found for span in _joined(spans, *run)]
    file.overlay(chunk.start, [])
    return None


def _spans(file: CachedRanges, chunk: Chunk) -> list[Span]:
    """The chunk's data pages, joined to spans with enough space for an overlay; after a bad header, one span."""
    spans: list[Span] = []
    for span in _data_pages(file, chunk):
        if spans and not spans[-1].nulls():
            spans[-1] = spans[-1].with_next(span)
        else:
            spans.append(span)
    if len(spans) > 1 and not spans[-1].nulls():
        spans[-2:] = [spans[-2].with_next(spans[-1])]
    return spans if spans and spans[-1].nulls() else []


def _joined(spans: Sequence[Span], first: int, last: int) -> Iterator[Span]:
    """Joins a run of spans to larger ones, to keep the number of overlays small."""
    while first < last:
        most = spans[first].start + JOINED_BYTES
        stop = max(first + 1, bisect_right(spans, most, first, last, key=lambda span: span.stop))
        rows = spans[stop - 1].first + spans[stop - 1].rows - spans[first].first
        yield replace(spans[first], stop=spans[stop - 1].stop, rows=rows)
        first = stop


def _data_pages(file: CachedRanges, chunk: Chunk) -> Iterator[Span]:
    position, end, done = chunk.start, chunk.start + chunk.length, 0
    while done < chunk.values and position < end:
        try:
            page = page_at(file, position, chunk)
        except ParquetError as error:
            if error.code != CORRUPT:
                raise
            page = None
        stop = page.start + page.compressed if page else end
        if page is None or stop > end or done + page.values > chunk.values:
            yield Span(position, end, done, chunk.values - done)
            return
        if page.kind != DICTIONARY:
            yield Span(position, stop, done, page.values)
            done += page.values
        position = stop


def _header(body: int, rows: int, levels: int) -> bytes:
    """The header of an uncompressed data page of version 2 with only nulls, in plain encoding."""
    sizes = b"".join(_int(number) for number in (DATA_V2, body, body))
    inner = b"".join(_int(number) for number in (rows, rows, rows, 0, levels, 0))
    return sizes + bytes([STRUCT]) + inner + bytes([FALSE, 0, 0])


def _int(number: int) -> bytes:
    return bytes([INT]) + _varint(number << 1)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
