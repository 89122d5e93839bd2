"""What can be read of a damaged column chunk: its bad pages are found by halves, and read as pages of nulls.

A page is the smallest piece that Arrow can be told to pass over: everything behind a page that it cannot read is lost
to it. The page that stands in for some others is of version 2, which needs no packing: a header of some twenty bytes
and one run of levels are laid over the first of them, and what follows there is not looked at.
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

TRIES = 500  # readings of a damaged column chunk, at most: what is not told apart by then is lost together
JOINED_BYTES = 16 << 20  # of neighboring pages that one page of nulls replaces, which Arrow reads into memory
INT, STRUCT, FALSE = 0x15, 0x5C, 0x12  # heads of fields in the compact protocol: number 1 more, or 5 more, and a kind


@dataclass(frozen=True)
class Span:
    """Pages that stand side by side: where they begin and end in the file, and the rows that they hold."""

    start: int
    stop: int
    first: int
    rows: int

    def with_next(self, span: Span) -> Span:
        """This one and the one behind it."""
        return replace(self, stop=span.stop, rows=self.rows + span.rows)

    def nulls(self) -> tuple[int, bytes] | None:
        """A place in the file, and what to lay over it so that these rows read as nulls; None where there is no room.

        For a column that may be null and lies in no list.
        """
        levels = _varint(self.rows << 1) + b"\x00"
        body = self.stop - self.start
        for _ in range(8):  # the header holds the length of the rest, which is as long as the header leaves it
            header = _header(body, self.rows, len(levels))
            if len(header) + body == self.stop - self.start:
                return (self.start, header + levels) if len(levels) <= body else None
            body = max(self.stop - self.start - len(header), 0)
        return None


@dataclass
class Losses:
    """What cannot be read of some rows.

    Attributes:
        rows: how many there are.
        reason: what was found to be wrong first.
        lost: for each column of which something is lost, the rows (first, end).
        whole: columns of which nothing can be read.
    """

    rows: int
    reason: str = ""
    lost: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)

    def add(self, column: str, spans: Sequence[Span] | None) -> None:
        """Takes note of a damaged column; None where nothing of it can be read."""
        if spans is None:
            self.whole.add(column)
        places = [(span.first, span.first + span.rows) for span in spans or ()] or [(0, self.rows)]
        self.lost.setdefault(column, []).extend(places)

    def of(self, first: int, last: int) -> Losses:
        """Those of a run of the rows, counted from its first."""
        moved = {name: [(a - first, b - first) for a, b in places] for name, places in self.lost.items()}
        return Losses(last - first, self.reason, moved, self.whole)

    def message(self, row: int, columns: Sequence[str] | None = None) -> str:
        """Which of the columns (None: of all) cannot be read in a row, and why; "" for none."""
        named = [
            repr(name)
            for name, places in self.lost.items()
            if (columns is None or name in columns) and any(first <= row < last for first, last in places)
        ]
        return f"column {', '.join(named)} cannot be read in this row: {self.reason}" if named else ""


def mend(file: CachedRanges, chunk: Chunk, leaf: pq.ColumnSchema, reads: Callable[[], bool]) -> list[Span] | None:
    """Lays nulls over what cannot be read of a column chunk, and says over which rows.

    Args:
        file: is changed for its readers, not where it lies.
        chunk: the column in one row group.
        leaf: the column in the schema.
        reads: whether the chunk can be read as the file is now.

    Returns:
        None where pages do not help: the column lies in a list, may not be null, or its pages do not add up.

    Raises:
        ParquetError: a page would become far more in memory than the file holds of it (`too_large`).
    """
    spans = _spans(file, chunk) if leaf.max_definition_level and not leaf.max_repetition_level else []
    if sum(span.rows for span in spans) != chunk.values or not spans:
        return None

    tries = 0

    def read_without(*bad: tuple[int, int]) -> bool:
        nonlocal tries
        tries += 1
        file.lay_over(chunk.start, [nulls for run in bad for span in _joined(spans, *run) if (nulls := span.nulls())])
        return reads()

    def bad_among(first: int, last: int) -> list[tuple[int, int]]:
        if tries >= TRIES:
            return [(first, last)]
        if read_without((0, first), (last, len(spans))):
            return []
        half = (first + last) // 2
        return [*bad_among(first, half), *bad_among(half, last)] if half > first else [(first, last)]

    everything = (0, len(spans))
    if not read_without(everything):  # a dictionary that is damaged lies before them
        spans[0] = replace(spans[0], start=chunk.start)
    found = bad_among(*everything) if read_without(everything) else [everything]
    if read_without(*found):
        return [span for run in found for span in _joined(spans, *run)]
    file.lay_over(chunk.start, [])
    return None


def _spans(file: CachedRanges, chunk: Chunk) -> list[Span]:
    """The chunk's data pages, in pieces that nulls can be laid over; where a header is broken the rest is one piece."""
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
    """A run of neighbors, in pieces of many: what is laid over the file stays short."""
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
        stop = page.start + page.packed if page else end
        if page is None or stop > end or done + page.values > chunk.values:
            yield Span(position, end, done, chunk.values - done)
            return
        if page.kind != DICTIONARY:
            yield Span(position, stop, done, page.values)
            done += page.values
        position = stop


def _header(body: int, rows: int, levels: int) -> bytes:
    """Of a page of version 2: its kind and sizes, then its values, all of them null, in plain encoding, not packed."""
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
