"""The one door for Parquet: what a file says never becomes code, and only declared columns become Python objects.

A Parquet file may carry an Arrow schema that names extension types. Whatever is registered under such a name in this
process is then built from the file's bytes, and Ray registers types whose values are pickles. So the names are made
unknown in a copy of the footer before Arrow's reader sees it: every extension type comes as its storage, at any depth,
and the names stand in the fields' metadata, from which an output file gets them back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from colorize.errors import one_line
from colorize.storage.cached_ranges import CachedRanges
from colorize.storage.parquet_error import TOO_LARGE, ParquetError, code_of, is_damage
from colorize.storage.parquet_footer import Chunk, column_chunks, harmless_footer, parse_footer, read_footer
from colorize.storage.parquet_mending import Losses, mend
from colorize.storage.parquet_pages import BOMB_BYTES, Size, chunk_size
from colorize.storage.parquet_types import is_foreign, padding, with_names

MANY_ROWS, ROWS_A_BYTE = 1 << 20, 16  # a file that holds more rows than both allow is refused
TABLE_BYTES = 2 << 30  # of a table that is read as a whole
AT_ONCE_BYTES = 256 << 20  # about what is read of it at once
MEND_BYTES = 16 << 20  # about what is read at once of a damaged column, to see which of its pages can be
BUFFER_BYTES = 1 << 20  # of a column chunk that are read at once


class Archive:
    """An open Parquet file.

    Attributes:
        schema: storage types only; fields that were extension types say so in their metadata.
        num_rows: of the whole file.
        row_counts: rows of each row group.
    """

    def __init__(self, file: IO[bytes], canonical: bool = False) -> None:
        """Reads the footer of a seekable binary file.

        Args:
            file: stays open, and is the caller's to close.
            canonical: types that Parquet itself knows (UUID, JSON) come as Arrow's own extension types, to be written
                as they came. Their values must not become Python objects.

        Raises:
            ParquetError: a footer that is broken or encrypted, or larger than `FOOTER_BYTES`.
            OSError, pyarrow.ArrowException: a file that is no Parquet, or that cannot be read.
        """
        try:
            self._open(file, canonical)
        except UnicodeDecodeError as error:
            raise ParquetError(f"the file's names are no UTF-8: {error}") from None

    def _open(self, file: IO[bytes], canonical: bool) -> None:
        self._footer = harmless_footer(read_footer(file))
        self._bytes, self._metadata = CachedRanges(file), parse_footer(self._footer)
        self._file = pq.ParquetFile(
            self._bytes,
            metadata=self._metadata,
            pre_buffer=False,
            page_checksum_verification=True,
            buffer_size=BUFFER_BYTES,
            arrow_extensions_enabled=canonical and not _knows_geometry(self._metadata),
        )
        schema = self._file.schema_arrow
        if any(map(is_foreign, schema)):
            raise ParquetError("the file's extension types cannot be told from their storage")
        self.schema = with_names(schema)
        self.row_counts = _row_counts(self._metadata, self._bytes.size)
        self.num_rows = sum(self.row_counts)

    def batches(self, group: int, columns: Sequence[str], held: int, most: int = MANY_ROWS) -> Iterator[pa.RecordBatch]:
        """A row group's rows in batches.

        Args:
            group: its number.
            columns: names, or dotted paths of leaves such as `image.bytes`.
            held: bytes that a batch may come to, if it is more than one row.
            most: rows of a batch.

        Raises:
            ParquetError: see `chunk_size`.
        """
        sizes, padded = self._sizes(group, columns), self._padding(columns)
        rows = most
        while rows > 1 and sum(size.of_rows(rows) for size in sizes) + rows * padded > held:
            rows //= 2
        yield from self._file.iter_batches(rows, [group], list(columns), use_threads=False)

    def all_batches(
        self, columns: Sequence[str], held: int, most: int = MANY_ROWS
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The whole file's rows as `batches`, each with the number of its first row."""
        first = 0
        for group in range(len(self.row_counts)):
            for batch in self.batches(group, columns, held, most):
                yield first, batch
                first += batch.num_rows

    def readable(
        self, group: int, columns: Sequence[str], held: int, most: int = MANY_ROWS
    ) -> Iterator[tuple[pa.RecordBatch, Losses]]:
        """A row group's rows as `batches`; where it is damaged they are all there, and null where they cannot be read.

        Yields:
            Batches, each with what is lost of its rows. Part of a struct that cannot be read at all is left out.

        Raises:
            ParquetError: what is not read although it could be (`too_large`).
        """
        done = 0
        try:
            for batch in self.batches(group, columns, held, most):
                yield batch, Losses(batch.num_rows)
                done += batch.num_rows
            return
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            if not is_damage(error) or code_of(error) == TOO_LARGE:
                raise
            losses = self._mend(group, columns, one_line(error))
        start = 0
        for batch in self._batches_beside(group, columns, losses, held, most):
            stop = start + batch.num_rows
            if stop > done:
                begin = max(done - start, 0)
                yield batch.slice(begin), losses.of(start + begin, stop)
            start = stop

    def _mend(self, group: int, columns: Sequence[str], reason: str) -> Losses:
        """Makes what is left of a damaged row group readable."""
        losses = Losses(self.row_counts[group], reason)
        for chunk, leaf in self._wanted(group, columns):
            reads = partial(self._reads, group, leaf.path)
            if reads():
                continue
            spans = mend(self._bytes, chunk, leaf, reads)
            losses.add(next(each for each in columns if _is_of(leaf.path, [each])), spans)
        return losses

    def _reads(self, group: int, path: str) -> bool:
        """Whether a leaf can be read in this row group, with as many rows as there are."""
        try:
            rows: int = sum(batch.num_rows for batch in self.batches(group, [path], MEND_BYTES))
        except (OSError, pa.ArrowException) as error:
            if not is_damage(error) or code_of(error) == TOO_LARGE:
                raise
            return False
        return rows == self.row_counts[group]

    def _batches_beside(
        self, group: int, columns: Sequence[str], losses: Losses, held: int, most: int
    ) -> Iterator[pa.RecordBatch]:
        """The columns of which anything can be read, and whole columns of nulls for the others."""
        left = [name for name in columns if name not in losses.whole]
        names = list(dict.fromkeys(name if name in self.schema.names else name.split(".")[0] for name in columns))
        rows = self.row_counts[group]
        empty = (pa.record_batch({"": pa.nulls(min(most, rows - at))}) for at in range(0, rows, most))
        for batch in self.batches(group, left, held, most) if left else empty:
            known = batch.schema.names
            fields = [batch.schema.field(name) if name in known else self.schema.field(name) for name in names]
            fields = [field.with_nullable(True) for field in fields]
            arrays = [
                batch[field.name] if field.name in known else pa.nulls(batch.num_rows, field.type) for field in fields
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    def _sizes(self, group: int, columns: Sequence[str]) -> list[Size]:
        wanted = self._wanted(group, columns)
        self._bytes.hold((chunk.start, chunk.length) for chunk, _ in wanted)
        return [chunk_size(self._bytes, chunk, leaf, self.row_counts[group]) for chunk, leaf in wanted]

    def _wanted(self, group: int, columns: Sequence[str]) -> list[tuple[Chunk, pq.ColumnSchema]]:
        """The column chunks of a row group that belong to these columns, and what the schema says of each."""
        schema, chunks = self._metadata.schema, self._chunks[group]
        if len(chunks) != len(schema):
            raise ParquetError(f"row group {group} has {len(chunks)} columns, the schema {len(schema)}")
        leaves = [schema.column(index) for index in range(len(schema))]
        return [(chunk, leaf) for chunk, leaf in zip(chunks, leaves, strict=True) if _is_of(leaf.path, columns)]

    @cached_property
    def _chunks(self) -> list[list[Chunk]]:
        return column_chunks(self._footer)

    def _padding(self, columns: Sequence[str]) -> int:
        """Bytes that a row without a list takes, where lists have a fixed size."""
        found = max((padding(field.type) for field in self.schema if _is_of(field.name, columns)), default=0)
        if found > BOMB_BYTES:
            raise ParquetError(f"lists of a fixed size take {found} bytes a row, at most {BOMB_BYTES}", "too_large")
        return found


def read_table(
    file: IO[bytes], schema: pa.Schema, columns: Sequence[str] | None = None, most: int = TABLE_BYTES
) -> pa.Table:
    """The columns of a declared schema, cast to its types; one that the file lacks is null.

    Args:
        file: a seekable binary file.
        schema: flat.
        columns: of the schema that are wanted; None for all.
        most: bytes that the table may come to.

    Raises:
        ParquetError: a column cannot be what the schema says, or the table is too large.
    """
    tables, size = [], 0
    for table in table_batches(file, schema, columns):
        tables.append(table)
        if (size := size + table.nbytes) > most:
            raise ParquetError(f"the table has more than {most} bytes", "too_large")
    return pa.concat_tables(tables) if tables else _wanted(schema, columns).empty_table()


def table_batches(
    file: IO[bytes], schema: pa.Schema, columns: Sequence[str] | None = None, held: int = AT_ONCE_BYTES
) -> Iterator[pa.Table]:
    """The same as `read_table` in tables of about `held` bytes, one after the other."""
    wanted = _wanted(schema, columns)
    archive = Archive(file)
    present = [field for field in wanted if field.name in archive.schema.names]
    for field in present:
        if pa.types.is_nested(found := archive.schema.field(field.name).type):
            raise ParquetError(f"column {field.name!r} holds {found}, not {field.type}")
    for _, batch in archive.all_batches([field.name for field in present], held):
        yield _declared(batch, wanted)


def _wanted(schema: pa.Schema, columns: Sequence[str] | None) -> pa.Schema:
    return schema if columns is None else pa.schema([schema.field(name) for name in columns])


def _declared(batch: pa.RecordBatch, schema: pa.Schema) -> pa.Table:
    table = pa.Table.from_batches([batch])
    known, rows = table.column_names, table.num_rows
    arrays = [table[each.name].cast(each.type) if each.name in known else pa.nulls(rows, each.type) for each in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _is_of(path: str, columns: Sequence[str]) -> bool:
    """Whether a leaf is, or lies within, one of these columns."""
    return any(path == column or path.startswith(f"{column}.") for column in columns)


def _row_counts(metadata: pq.FileMetaData, size: int) -> list[int]:
    counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    if any(count < 0 for count in counts) or sum(counts) > MANY_ROWS + ROWS_A_BYTE * size:
        raise ParquetError(f"the footer speaks of {sum(counts)} rows in a file of {size} bytes", "too_large")
    return counts


def _knows_geometry(metadata: pq.FileMetaData) -> bool:
    """Whether a column has one of the logical types that Arrow reads as a type which somebody else registers."""
    leaves = (metadata.schema.column(index) for index in range(metadata.num_columns))
    return any(leaf.logical_type.type in ("GEOMETRY", "GEOGRAPHY") for leaf in leaves)
