"""The one door for Parquet: what a file says never becomes code, and only declared columns become Python objects.

A Parquet file may carry an Arrow schema that names extension types. Whatever is registered under such a name in this
process is then built from the file's bytes, and Ray registers types whose values are pickles. So the names are made
unknown in a copy of the footer before Arrow's reader sees it: every extension type comes as its storage, at any depth,
and the names stand in the fields' metadata, from which an output file gets them back.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from colorize.storage.held import HeldRanges
from colorize.storage.parquet_error import ParquetError
from colorize.storage.parquet_pages import Size, chunk_range, chunk_size

MAGIC = b"PAR1"
FOOTER_BYTES = 64 << 20  # of a footer that is read at all
MANY_ROWS, ROWS_A_BYTE = 1 << 20, 16  # a file that holds more rows than both allow is refused
TABLE_BYTES = 2 << 30  # of a table that is read as a whole
AT_ONCE_BYTES = 256 << 20  # about what is read of it at once
SCHEMA_KEY, HIDDEN_SCHEMA_KEY = b"ARROW:schema", b"ARROW-schema"
NAME_KEY, HIDDEN_NAME_KEY = b"ARROW:extension:name", b"ARROW-extension-name"
EXTENSION_KEYS = (NAME_KEY, b"ARROW:extension:metadata")
LISTS = (
    (pa.types.is_list, pa.list_),
    (pa.types.is_large_list, pa.large_list),
    (pa.types.is_list_view, pa.list_view),
    (pa.types.is_large_list_view, pa.large_list_view),
)
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
        metadata = _harmless(_read_footer(file))
        self._bytes, self._metadata = HeldRanges(file), metadata
        self._file = pq.ParquetFile(
            self._bytes,
            metadata=metadata,
            pre_buffer=False,
            buffer_size=BUFFER_BYTES,
            arrow_extensions_enabled=canonical and not _knows_geometry(metadata),
        )
        schema = self._file.schema_arrow
        if any(map(_is_foreign, schema)):
            raise ParquetError("the file's extension types cannot be told from their storage")
        self.schema = _with_names(schema)
        self.row_counts = _row_counts(metadata, self._bytes.size)
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
        sizes = self._sizes(group, columns)
        rows = most
        while rows > 1 and sum(size.of_rows(rows) for size in sizes) > held:
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
        of_group, rows = self._metadata.row_group(group), self.row_counts[group]
        chunks = {index: of_group.column(index) for index in range(of_group.num_columns)}
        wanted = {index: chunk for index, chunk in chunks.items() if _is_of(chunk.path_in_schema, columns)}
        self._bytes.hold(map(chunk_range, wanted.values()))
        schema = self._metadata.schema
        return [chunk_size(self._bytes, chunk, schema.column(index), rows) for index, chunk in wanted.items()]


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


def _read_footer(file: IO[bytes]) -> bytes:
    size = file.seek(0, io.SEEK_END)
    file.seek(max(size - 8, 0))
    tail = file.read(8)
    if tail[4:] == b"PARE":
        raise ParquetError("the Parquet file is encrypted; decrypt it first")
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != MAGIC or length + 12 > size:
        raise ParquetError("not a Parquet file, or its end is missing: it has no footer")
    if length > FOOTER_BYTES:
        raise ParquetError(f"the footer has {length} bytes; at most {FOOTER_BYTES} are read", "too_large")
    file.seek(size - 8 - length)
    return file.read(length)


def _harmless(footer: bytes) -> pq.FileMetaData:
    """The metadata with no name in its Arrow schema under which anything could be registered.

    A string stands in a footer, and in a schema in it, as one run of bytes: one that is found nowhere is not there,
    however the rest is to be read.
    """
    hidden = _parse(footer.replace(SCHEMA_KEY, HIDDEN_SCHEMA_KEY))
    if (count := footer.count(SCHEMA_KEY)) == 0:
        return hidden
    value = (hidden.metadata or {}).get(HIDDEN_SCHEMA_KEY, b"")
    try:
        schema = base64.b64decode(value, validate=True)
    except binascii.Error:
        return hidden
    if count > 1 or not schema:  # which of them would Arrow take?
        return hidden
    renamed = base64.b64encode(schema.replace(NAME_KEY, HIDDEN_NAME_KEY))
    if len(renamed) != len(value):
        return hidden
    return _parse(footer.replace(value, renamed))


def _parse(footer: bytes) -> pq.FileMetaData:
    """The metadata of a footer alone. Arrow reads its schema as well: only of a footer that is harmless."""
    return pq.read_metadata(pa.BufferReader(MAGIC + footer + len(footer).to_bytes(4, "little") + MAGIC))


def _knows_geometry(metadata: pq.FileMetaData) -> bool:
    """Whether a column has one of the logical types that Arrow reads as a type which somebody else registers."""
    leaves = (metadata.schema.column(index) for index in range(metadata.num_columns))
    return any(leaf.logical_type.type in ("GEOMETRY", "GEOGRAPHY") for leaf in leaves)


def _is_foreign(field: pa.Field) -> bool:
    """Whether a field holds, at any depth, a type that is not Arrow's own."""
    return isinstance(field.type, pa.ExtensionType) or any(map(_is_foreign, _children(field.type)))


def _children(kind: pa.DataType) -> Iterable[pa.Field]:
    if pa.types.is_dictionary(kind):
        return [pa.field("values", kind.value_type)]
    return [kind.field(index) for index in range(kind.num_fields)]


def _is_hidden(field: pa.Field) -> bool:
    return HIDDEN_NAME_KEY in (field.metadata or {}) or any(map(_is_hidden, _children(field.type)))


def _with_names(schema: pa.Schema) -> pa.Schema:
    """The schema with extension types named in its fields' metadata, as files of Arrow's have it."""
    metadata = {key: value for key, value in (schema.metadata or {}).items() if key != HIDDEN_SCHEMA_KEY}
    return pa.schema([_named(field) for field in schema], metadata or None)


def _named(field: pa.Field) -> pa.Field:
    metadata = dict(field.metadata or {})
    if isinstance(field.type, pa.BaseExtensionType):  # writes its name itself
        kept = {key: value for key, value in metadata.items() if key not in (*EXTENSION_KEYS, HIDDEN_NAME_KEY)}
    else:
        kept = {NAME_KEY if key == HIDDEN_NAME_KEY else key: value for key, value in metadata.items()}
    return field.with_type(_named_type(field.type)).with_metadata(kept or None)


def _named_type(kind: pa.DataType) -> pa.DataType:
    """The same type, its children named as `_named` has it."""
    if not any(map(_is_hidden, _children(kind))):
        return kind
    if pa.types.is_struct(kind):
        return pa.struct([_named(child) for child in kind])
    if pa.types.is_map(kind):
        return pa.map_(_named(kind.key_field), _named(kind.item_field), kind.keys_sorted)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_named(kind.value_field), kind.list_size)
    for is_one, make in LISTS:
        if is_one(kind):
            return make(_named(kind.value_field))
    return kind
