"""The one door for Parquet: what a file says never becomes code, and only declared columns become Python objects.

A Parquet file may carry an Arrow schema that names extension types. Whatever is registered under such a name in this
process is then built from the file's bytes, and Ray registers types whose values are pickles. So the names are made
unknown in a copy of the footer before Arrow's reader sees it: every extension type comes as its storage, at any depth,
and the names stand in the fields' metadata, from which an output file gets them back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from colorize.storage.held import HeldRanges
from colorize.storage.parquet_error import ParquetError
from colorize.storage.parquet_footer import Chunk, column_chunks, harmless_footer, parse_footer, read_footer
from colorize.storage.parquet_pages import BOMB_BYTES, Size, chunk_size
from colorize.storage.parquet_types import is_foreign, padding, with_names

MANY_ROWS, ROWS_A_BYTE = 1 << 20, 16  # a file that holds more rows than both allow is refused
TABLE_BYTES = 2 << 30  # of a table that is read as a whole
AT_ONCE_BYTES = 256 << 20  # about what is read of it at once
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
        self._bytes, self._metadata = HeldRanges(file), parse_footer(self._footer)
        self._file = pq.ParquetFile(
            self._bytes,
            metadata=self._metadata,
            pre_buffer=False,
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

    def _sizes(self, group: int, columns: Sequence[str]) -> list[Size]:
        schema, chunks = self._metadata.schema, self._chunks[group]
        if len(chunks) != len(schema):
            raise ParquetError(f"row group {group} has {len(chunks)} columns, the schema {len(schema)}")
        leaves = [schema.column(index) for index in range(len(schema))]
        wanted = [(chunk, leaf) for chunk, leaf in zip(chunks, leaves, strict=True) if _is_of(leaf.path, columns)]
        self._bytes.hold((chunk.start, chunk.length) for chunk, _ in wanted)
        return [chunk_size(self._bytes, chunk, leaf, self.row_counts[group]) for chunk, leaf in wanted]

    @cached_property
    def _chunks(self) -> list[list[Chunk]]:
        return column_chunks(self._footer)

    def _padding(self, columns: Sequence[str]) -> int:
        """Bytes that a row without a list takes all the same, where lists have a fixed size."""
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
    wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    archive = Archive(file)
    present = [field for field in wanted if field.name in archive.schema.names]
    for field in present:
        if pa.types.is_nested(found := archive.schema.field(field.name).type):
            raise ParquetError(f"column {field.name!r} holds {found}, not {field.type}")
    tables, size = [], 0
    for _, batch in archive.all_batches([field.name for field in present], AT_ONCE_BYTES):
        tables.append(_declared(batch, wanted))
        if (size := size + tables[-1].nbytes) > most:
            raise ParquetError(f"the table has more than {most} bytes", "too_large")
    return pa.concat_tables(tables) if tables else wanted.empty_table()


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
