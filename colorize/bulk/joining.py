"""Joins an archive's fragments with its input: all input columns unchanged, followed by the output columns.

Both are streamed, so only some rows are in memory. Unreadable rows keep their place, so a row has the same number in
the input, the output and the manifest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from colorize.bulk.ledger.lost import ARCHIVE_UNREADABLE, Lost
from colorize.bulk.sinks import BUFFER_BYTES, FRAGMENT_SCHEMA
from colorize.datasets.archives import OUTPUT_COLUMNS
from colorize.errors import one_line
from colorize.storage.parquet import Archive, read_table
from colorize.storage.parquet_repair import Losses
from colorize.storage.root import Storage

GROUP_ROWS = 256  # maximum rows of a row group of the output


class DamagedArchiveError(Exception):
    """An archive cannot be read completely, or has changed since its rows were colored."""


def assemble(source: Storage, sink: Storage, part: str, fragments: str, identity: str = "") -> Lost:
    """Writes the archive `part`: the input's columns, then `colorized`, `status` and `error` from its `fragments`.

    An input column with the name of an output column (the input is an output of this program) is replaced. Unreadable
    values of the input become null, and their rows failed. Fragments are kept, because a task may be retried.

    Args:
        source: storage of the input archive.
        sink: storage of the fragments and the output.
        part: name of the archive in both.
        fragments: folder of the finished rows.
        identity: of the archive when it was planned, if known.

    Returns:
        The lost rows, or the reason why there is no output.

    Raises:
        OSError: the output could not be written; can be retried.
        RuntimeError: fragments are missing.
    """
    try:
        try:
            _assemble(source, sink, part, fragments, identity)
            return Lost()
        except DamagedArchiveError:  # once more, with nullable columns
            return _assemble(source, sink, part, fragments, identity, repaired=True)
    except DamagedArchiveError as error:
        return Lost(str(error))


def _assemble(source: Storage, sink: Storage, part: str, folder: str, identity: str, repaired: bool = False) -> Lost:
    fragments = sorted(entry.name for entry in sink.entries(folder))
    lost = Lost()
    with ExitStack() as stack:
        with _damage():
            archive = Archive(stack.enter_context(source.open(part)), canonical=True)
        file = stack.enter_context(sink.create(part))
        names = [name for name in archive.schema.names if name not in OUTPUT_COLUMNS]
        fields = [archive.schema.field(name) for name in names]
        columns = [each.with_nullable(True) for each in fields] if repaired else fields
        schema = pa.schema([*columns, *map(FRAGMENT_SCHEMA.field, OUTPUT_COLUMNS)], archive.schema.metadata)
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            _join(_row_batches(archive, names, repaired), _in_order(sink, fragments), writer, lost)
        with _damage():
            if identity and source.entry(part).identity != identity:
                raise DamagedArchiveError("the archive changed while the job ran; run again")
    return lost


@contextmanager
def _damage() -> Iterator[None]:
    """Converts errors of reading the input, to tell them from errors of writing the output."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise DamagedArchiveError(one_line(error)) from error


@dataclass
class _Held:
    """Rows of an archive for one row group of the output."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    losses: list[Losses] = field(default_factory=list)

    def has_room(self, batch: pa.RecordBatch) -> bool:
        pieces = [*self.batches, batch]
        rows, size = sum(piece.num_rows for piece in pieces), sum(piece.nbytes for piece in pieces)
        return rows <= GROUP_ROWS and bool(size <= BUFFER_BYTES)

    def columns(self) -> list[pa.ChunkedArray]:
        return [pa.chunked_array(pieces) for pieces in zip(*(batch.columns for batch in self.batches), strict=True)]

    def messages(self) -> list[str]:
        """For each row, which values cannot be read; "" if all can."""
        return [losses.message(row) for losses in self.losses for row in range(losses.rows)]


def _row_batches(archive: Archive, names: list[str], repaired: bool) -> Iterator[_Held]:
    """The rows of an archive, grouped for the row groups of the output."""
    held = _Held()
    with _damage():
        for batch, losses in _batches(archive, names, repaired):
            if held.batches and not held.has_room(batch):
                yield held
                held = _Held()
            held.batches.append(batch)
            held.losses.append(losses)
    if held.batches:
        yield held


def _batches(archive: Archive, names: list[str], repaired: bool) -> Iterator[tuple[pa.RecordBatch, Losses]]:
    if not repaired:
        yield from (
            (batch, Losses(batch.num_rows)) for _, batch in archive.all_batches(names, BUFFER_BYTES, GROUP_ROWS)
        )
        return
    for group in range(len(archive.row_counts)):
        yield from archive.readable(group, names, BUFFER_BYTES, GROUP_ROWS)


def _join(pieces: Iterator[_Held], finished: Iterator[pa.Table], writer: pq.ParquetWriter, lost: Lost) -> None:
    """Joins the input's rows with the finished rows, which are in the same order."""
    waiting, row = FRAGMENT_SCHEMA.empty_table(), 0
    for held in pieces:
        messages = held.messages()
        while waiting.num_rows < len(messages):
            if (more := next(finished, None)) is None:
                raise RuntimeError("finished rows of an archive are missing: run the same command again")
            waiting = pa.concat_tables([waiting, more])
        added = _outcomes(waiting.slice(0, len(messages)), messages)
        writer.write_table(pa.Table.from_arrays([*held.columns(), *added], schema=writer.schema))
        lost.add(row, messages)
        waiting, row = waiting.slice(len(messages)), row + len(messages)


def _outcomes(finished: pa.Table, messages: Sequence[str]) -> Iterator[pa.ChunkedArray]:
    """The output columns of some rows; rows with unreadable values are failed and have no color."""
    lost_rows = pc.and_(pa.array([bool(message) for message in messages]), pc.not_equal(finished["status"], "failed"))
    yield pc.if_else(lost_rows, pa.scalar(None, pa.large_binary()), finished["colorized"])
    yield pc.if_else(lost_rows, "failed", finished["status"])
    yield pc.if_else(lost_rows, ARCHIVE_UNREADABLE, finished["error"])


def _in_order(sink: Storage, fragments: Sequence[str]) -> Iterator[pa.Table]:
    """The fragments' rows in order, each once, even if a retried task has split its runs differently.

    Stops before the first missing row.
    """
    expected = 0
    for name in fragments:
        with sink.open(name) as file:
            table = read_table(file, FRAGMENT_SCHEMA)
        fresh = table.filter(pc.greater_equal(table.column("row"), expected))
        if fresh.num_rows:
            if fresh.column("row")[0].as_py() != expected:
                return
            expected = fresh.column("row")[-1].as_py() + 1
            yield fresh
