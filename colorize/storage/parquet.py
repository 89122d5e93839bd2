"""Reads untrusted Parquet files safely. All Parquet files must be read through this module.

A Parquet file may contain an Arrow schema with extension types. Arrow would instantiate any type that is registered
under their names in this process, and Ray registers types whose values are pickles. Therefore the names are replaced
in a copy of the footer before Arrow reads it: extension types are read as their storage types, at any depth, and their
names are stored in the fields' metadata, from which an output file restores them.
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
from colorize.storage.parquet_footer import Chunk, column_chunks, parse_footer, read_footer, sanitize_footer
from colorize.storage.parquet_pages import BOMB_BYTES, Size, chunk_size
from colorize.storage.parquet_repair import Losses, repair
from colorize.storage.parquet_types import is_foreign, padding, with_names

MANY_ROWS, ROWS_A_BYTE = 1 << 20, 16  # files with more than MANY_ROWS + ROWS_A_BYTE * size rows are refused
TABLE_BYTES = 2 << 30  # maximum size of a table that is read as a whole
AT_ONCE_BYTES = 256 << 20  # approximate size of its batches
REPAIR_BYTES = 16 << 20  # approximate size of batches when testing a damaged column
BUFFER_BYTES = 1 << 20  # read buffer of a column chunk


class Archive:
    """An open Parquet file.

    Attributes:
        schema: with storage types only; the metadata of a field has the name of its extension type.
        num_rows: rows of the whole file.
        row_counts: rows of each row group.
    """

    def __init__(self, file: IO[bytes], canonical: bool = False) -> None:
        """Reads the footer of a seekable binary file.

        Args:
            file: closed by the caller.
            canonical: read Parquet's own logical types (UUID, JSON) as Arrow's extension types, to write them
                unchanged. Their values must not become Python objects.

        Raises:
            ParquetError: the footer is damaged, encrypted, or larger than `FOOTER_BYTES`.
            OSError, pyarrow.ArrowException: not a Parquet file, or not readable.
        """
        try:
            self._open(file, canonical)
        except UnicodeDecodeError as error:
            raise ParquetError(f"the file's column names are not UTF-8: {error}") from None

    def _open(self, file: IO[bytes], canonical: bool) -> None:
        self._footer = sanitize_footer(read_footer(file))
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
            raise ParquetError("the file's extension types cannot be replaced by their storage types")
        self.schema = with_names(schema)
        self.row_counts = _row_counts(self._metadata, self._bytes.size)
        self.num_rows = sum(self.row_counts)

    def batches(
        self, group: int, columns: Sequence[str], max_bytes: int, max_rows: int = MANY_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a row group in batches.

        Args:
            group: index of the row group.
            columns: names, or dotted paths of leaves such as `image.bytes`.
            max_bytes: maximum size of a batch with more than one row.
            max_rows: maximum rows of a batch.

        Raises:
            ParquetError: see `chunk_size`.
        """
        sizes, padded = self._sizes(group, columns), self._padding(columns)
        rows = max_rows
        while rows > 1 and sum(size.of_rows(rows) for size in sizes) + rows * padded > max_bytes:
            rows //= 2
        yield from self._file.iter_batches(rows, [group], list(columns), use_threads=False)

    def all_batches(
        self, columns: Sequence[str], max_bytes: int, max_rows: int = MANY_ROWS
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Like `batches`, for the whole file; each batch with the number of its first row."""
        first = 0
        for group in range(len(self.row_counts)):
            for batch in self.batches(group, columns, max_bytes, max_rows):
                yield first, batch
                first += batch.num_rows

    def readable(
        self, group: int, columns: Sequence[str], max_bytes: int, max_rows: int = MANY_ROWS
    ) -> Iterator[tuple[pa.RecordBatch, Losses]]:
        """Like `batches`, but a damaged row group has all of its rows, with nulls for values that cannot be read.

        Yields:
            Batches, each with its losses. Fields of a struct that cannot be read at all are omitted.

        Raises:
            ParquetError: the values are too large (`too_large`).
        """
        done = 0
        try:
            for batch in self.batches(group, columns, max_bytes, max_rows):
                yield batch, Losses(batch.num_rows)
                done += batch.num_rows
            return
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            if not is_damage(error) or code_of(error) == TOO_LARGE:
                raise
            losses = self._repair(group, columns, one_line(error))
        start = 0
        for batch in self._batches_beside(group, columns, losses, max_bytes, max_rows):
            stop = start + batch.num_rows
            if stop > done:
                begin = max(done - start, 0)
                yield batch.slice(begin), losses.of(start + begin, stop)
            start = stop

    def _repair(self, group: int, columns: Sequence[str], reason: str) -> Losses:
        """Makes the undamaged pages of a row group readable."""
        losses = Losses(self.row_counts[group], reason)
        for chunk, leaf in self._wanted(group, columns):
            reads = partial(self._reads, group, leaf.path)
            if reads():
                continue
            spans = repair(self._bytes, chunk, leaf, reads)
            losses.add(next(each for each in columns if _is_of(leaf.path, [each])), spans)
        return losses

    def _reads(self, group: int, path: str) -> bool:
        """Whether all rows of a leaf can be read in this row group."""
        try:
            rows: int = sum(batch.num_rows for batch in self.batches(group, [path], REPAIR_BYTES))
        except (OSError, pa.ArrowException) as error:
            if not is_damage(error) or code_of(error) == TOO_LARGE:
                raise
            return False
        return rows == self.row_counts[group]

    def _batches_beside(
        self, group: int, columns: Sequence[str], losses: Losses, max_bytes: int, max_rows: int
    ) -> Iterator[pa.RecordBatch]:
        """Batches of the columns that can be read, with columns of nulls for the others."""
        readable = [name for name in columns if name not in losses.whole]
        names = list(dict.fromkeys(name if name in self.schema.names else name.split(".")[0] for name in columns))
        rows = self.row_counts[group]
        empty = (pa.record_batch({"": pa.nulls(min(max_rows, rows - at))}) for at in range(0, rows, max_rows))
        for batch in self.batches(group, readable, max_bytes, max_rows) if readable else empty:
            known = batch.schema.names
            fields = [batch.schema.field(name) if name in known else self.schema.field(name) for name in names]
            fields = [field.with_nullable(True) for field in fields]
            arrays = [
                batch[field.name] if field.name in known else pa.nulls(batch.num_rows, field.type) for field in fields
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    def _sizes(self, group: int, columns: Sequence[str]) -> list[Size]:
        wanted = self._wanted(group, columns)
        self._bytes.prefetch((chunk.start, chunk.length) for chunk, _ in wanted)
        return [chunk_size(self._bytes, chunk, leaf, self.row_counts[group]) for chunk, leaf in wanted]

    def _wanted(self, group: int, columns: Sequence[str]) -> list[tuple[Chunk, pq.ColumnSchema]]:
        """The column chunks of a row group for these columns, with their schemas."""
        schema, chunks = pq.ParquetSchema(self._metadata), self._chunks[group]  # `.schema` makes a reference cycle
        if len(chunks) != len(schema):
            raise ParquetError(f"row group {group} has {len(chunks)} columns, the schema {len(schema)}")
        leaves = [schema.column(index) for index in range(len(schema))]
        return [(chunk, leaf) for chunk, leaf in zip(chunks, leaves, strict=True) if _is_of(leaf.path, columns)]

    @cached_property
    def _chunks(self) -> list[list[Chunk]]:
        return column_chunks(self._footer)

    def _padding(self, columns: Sequence[str]) -> int:
        """Maximum bytes of a null in a column of fixed-size lists."""
        found = max((padding(field.type) for field in self.schema if _is_of(field.name, columns)), default=0)
        if found > BOMB_BYTES:
            raise ParquetError(f"fixed-size lists take {found} bytes per row; at most {BOMB_BYTES}", "too_large")
        return found


def read_table(
    file: IO[bytes], schema: pa.Schema, columns: Sequence[str] | None = None, most: int = TABLE_BYTES
) -> pa.Table:
    """Reads the columns of a declared schema, cast to its types; missing columns are null.

    Args:
        file: a seekable binary file.
        schema: flat.
        columns: of the schema; None for all.
        most: maximum size of the table in bytes.

    Raises:
        ParquetError: a column does not match the schema, or the table is too large.
    """
    tables, size = [], 0
    for table in table_batches(file, schema, columns):
        tables.append(table)
        if (size := size + table.nbytes) > most:
            raise ParquetError(f"the table has more than {most} bytes", "too_large")
    return pa.concat_tables(tables) if tables else _wanted(schema, columns).empty_table()


def table_batches(
    file: IO[bytes], schema: pa.Schema, columns: Sequence[str] | None = None, max_bytes: int = AT_ONCE_BYTES
) -> Iterator[pa.Table]:
    """Like `read_table`, but yields tables of about `max_bytes`."""
    wanted = _wanted(schema, columns)
    archive = Archive(file)
    present = [field for field in wanted if field.name in archive.schema.names]
    for field in present:
        if pa.types.is_nested(found := archive.schema.field(field.name).type):
            raise ParquetError(f"column {field.name!r} has the type {found}, not {field.type}")
    for _, batch in archive.all_batches([field.name for field in present], max_bytes):
        yield _declared(batch, wanted)


def _wanted(schema: pa.Schema, columns: Sequence[str] | None) -> pa.Schema:
    return schema if columns is None else pa.schema([schema.field(name) for name in columns])


def _declared(batch: pa.RecordBatch, schema: pa.Schema) -> pa.Table:
    table = pa.Table.from_batches([batch])
    known, rows = table.column_names, table.num_rows
    arrays = [table[each.name].cast(each.type) if each.name in known else pa.nulls(rows, each.type) for each in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _is_of(path: str, columns: Sequence[str]) -> bool:
    """Whether a leaf is one of these columns, or part of one."""
    return any(path == column or path.startswith(f"{column}.") for column in columns)


def _row_counts(metadata: pq.FileMetaData, size: int) -> list[int]:
    counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    if any(count < 0 for count in counts) or sum(counts) > MANY_ROWS + ROWS_A_BYTE * size:
        raise ParquetError(f"the footer claims {sum(counts)} rows in a file of {size} bytes", "too_large")
    return counts


def _knows_geometry(metadata: pq.FileMetaData) -> bool:
    """Whether a column has a logical type that Arrow maps to an extension type of another package."""
    schema = pq.ParquetSchema(metadata)
    leaves = (schema.column(index) for index in range(metadata.num_columns))
    return any(leaf.logical_type.type in ("GEOMETRY", "GEOGRAPHY") for leaf in leaves)
