"""Joins an archive's fragments with its input: every input column comes out as it was, and the new ones behind them.

Both are streamed, so that memory holds some rows and not an archive. Rows that cannot be read keep their places, so
that a row has one number in the input, in the output and in the manifest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from colorize.bulk.ledger.lost import ARCHIVE_UNREADABLE, Lost
from colorize.bulk.sinks import FRAGMENT_SCHEMA, HELD_BYTES
from colorize.datasets.archives import OUTPUT_COLUMNS
from colorize.errors import one_line
from colorize.storage.parquet import Archive, read_table
from colorize.storage.parquet_mending import Losses
from colorize.storage.root import Storage

CARRIED_ROWS = 256  # of an archive that are copied at once, at most


class DamagedArchiveError(Exception):
    """An archive cannot be read to its end, or is not the one any more whose rows were colored; says why."""


def assemble(source: Storage, sink: Storage, part: str, fragments: str, identity: str = "") -> Lost:
    """Writes the archive `part`: the input's columns, then `colorized`, `status` and `error` from its `fragments`.

    An input column with the name of an output column (a second pass over one's own output) gives way to the new one.
    What cannot be read of the input is null, and the rows of it are failures. The fragments stay: a task may run again.

    Args:
        source: where the archive lies.
        sink: where its fragments lie, and the output goes.
        part: its name in both.
        fragments: the folder of its finished rows.
        identity: of the archive when it was planned, if that is known.

    Returns:
        What is lost of it: some rows, or all of it, since there can be no output.

    Raises:
        OSError: the storage took no output. The fragments are whole: it can be tried again.
        RuntimeError: rows are missing among them.
    """
    try:
        try:
            _assemble(source, sink, part, fragments, identity)
            return Lost()
        except DamagedArchiveError:  # once more, into columns that may be null
            return _assemble(source, sink, part, fragments, identity, mended=True)
    except DamagedArchiveError as error:
        return Lost(str(error))


def _assemble(source: Storage, sink: Storage, part: str, folder: str, identity: str, mended: bool = False) -> Lost:
    fragments = sorted(entry.name for entry in sink.entries(folder))
    lost = Lost()
    with ExitStack() as stack:
        with _damage():
            archive = Archive(stack.enter_context(source.open(part)), canonical=True)
        file = stack.enter_context(sink.create(part))
        kept = [name for name in archive.schema.names if name not in OUTPUT_COLUMNS]
        fields = [archive.schema.field(name) for name in kept]
        columns = [each.with_nullable(True) for each in fields] if mended else fields
        schema = pa.schema([*columns, *map(FRAGMENT_SCHEMA.field, OUTPUT_COLUMNS)], archive.schema.metadata)
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            _join(_row_batches(archive, kept, mended), _in_order(sink, fragments), writer, lost)
        with _damage():
            if identity and source.entry(part).identity != identity:
                raise DamagedArchiveError("the archive changed while the job ran; run again")
    return lost


@contextmanager
def _damage() -> Iterator[None]:
    """What goes wrong in here lies in the input, not in the storage that is written to."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise DamagedArchiveError(one_line(error)) from error


@dataclass
class _Held:
    """Rows of an archive that shall be one row group of the output."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    losses: list[Losses] = field(default_factory=list)

    def has_room(self, batch: pa.RecordBatch) -> bool:
        pieces = [*self.batches, batch]
        rows, size = sum(piece.num_rows for piece in pieces), sum(piece.nbytes for piece in pieces)
        return rows <= CARRIED_ROWS and bool(size <= HELD_BYTES)

    def columns(self) -> list[pa.ChunkedArray]:
        return [pa.chunked_array(pieces) for pieces in zip(*(batch.columns for batch in self.batches), strict=True)]

    def messages(self) -> list[str]:
        """For each row what of it cannot be read."""
        return [losses.message(row) for losses in self.losses for row in range(losses.rows)]


def _row_batches(archive: Archive, kept: list[str], mended: bool) -> Iterator[_Held]:
    """The rows of an archive, as many at once as shall be a row group of the output."""
    held = _Held()
    with _damage():
        for batch, losses in _batches(archive, kept, mended):
            if held.batches and not held.has_room(batch):
                yield held
                held = _Held()
            held.batches.append(batch)
            held.losses.append(losses)
    if held.batches:
        yield held


def _batches(archive: Archive, kept: list[str], mended: bool) -> Iterator[tuple[pa.RecordBatch, Losses]]:
    if not mended:
        yield from ((batch, Losses(batch.num_rows)) for _, batch in archive.all_batches(kept, HELD_BYTES, CARRIED_ROWS))
        return
    for group in range(len(archive.row_counts)):
        yield from archive.readable(group, kept, HELD_BYTES, CARRIED_ROWS)


def _join(pieces: Iterator[_Held], finished: Iterator[pa.Table], writer: pq.ParquetWriter, lost: Lost) -> None:
    """Pairs the input's rows with the finished ones, which come in the same order."""
    waiting, row = FRAGMENT_SCHEMA.empty_table(), 0
    for held in pieces:
        messages = held.messages()
        while waiting.num_rows < len(messages):
            if (more := next(finished, None)) is None:
                raise RuntimeError("rows of an archive were finished and are not there: run the same command again")
            waiting = pa.concat_tables([waiting, more])
        added = _outcomes(waiting.slice(0, len(messages)), messages)
        writer.write_table(pa.Table.from_arrays([*held.columns(), *added], schema=writer.schema))
        lost.add(row, messages)
        waiting, row = waiting.slice(len(messages)), row + len(messages)


def _outcomes(finished: pa.Table, messages: Sequence[str]) -> Iterator[pa.ChunkedArray]:
    """The output's own columns of some rows: one of which something cannot be read is a failure, and has no color."""
    spoiled = pc.and_(pa.array([bool(message) for message in messages]), pc.not_equal(finished["status"], "failed"))
    yield pc.if_else(spoiled, pa.scalar(None, pa.large_binary()), finished["colorized"])
    yield pc.if_else(spoiled, "failed", finished["status"])
    yield pc.if_else(spoiled, ARCHIVE_UNREADABLE, finished["error"])


def _in_order(sink: Storage, fragments: Sequence[str]) -> Iterator[pa.Table]:
    """The fragments' rows by row number, each once, also where a retried task cut its runs differently.

    Ends before a row that none of them holds.
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
