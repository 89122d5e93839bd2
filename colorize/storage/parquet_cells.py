"""Reads single values of Parquet columns, encoded images and plain values, after checking their types and sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from colorize.storage.parquet import Archive
from colorize.storage.parquet_error import ParquetError

IMAGE_BYTES = 1 << 30  # maximum size of an encoded image
TEXT_BYTES = 64 << 10  # maximum size of a text
ROWS_BYTES = 16 << 20  # approximate size of batches of plain columns


@dataclass(frozen=True)
class ImageColumn:
    """A column of encoded bytes, or of structs `{bytes, path}` as used by dataset hubs.

    Attributes:
        name: of the column.
        leaves: the leaves to read.
    """

    name: str
    leaves: tuple[str, ...]

    @classmethod
    def of(cls, schema: pa.Schema, name: str, file: str = "the archive") -> ImageColumn:
        """Raises ParquetError if the `file` has no such column, or if it does not have encoded bytes."""
        if (count := schema.names.count(name)) != 1:
            raise ParquetError(f"{file} has {count or 'no'} column{'s' * (count > 1)} {name!r}")
        kind = schema.field(name).type
        if not pa.types.is_struct(kind):
            column, found = cls(name, (name,)), kind
        else:
            index = kind.get_field_index("bytes")
            found = kind.field(index).type if index >= 0 else kind
            path = kind.get_field_index("path")
            has_path = path >= 0 and _is_text(kind.field(path).type)
            column = cls(name, (f"{name}.bytes", f"{name}.path") if has_path else (f"{name}.bytes",))
        if not _is_bytes(found):
            raise ParquetError(f"column {name!r} of {file} has the type {kind}, not bytes or a {{bytes, path}} struct")
        return column

    def image(self, batch: pa.RecordBatch | pa.Table, row: int, most: int = IMAGE_BYTES) -> bytes:
        """The encoded image of a row.

        Raises:
            ParquetError: there is none (`empty`), or it has more than `most` bytes (`too_large`).
        """
        cell = batch.column(self.name)[row]
        if not isinstance(cell, pa.StructScalar):
            value, path = cell, None
        else:
            value = cell["bytes"] if cell.is_valid else cell
            path = cell["path"] if cell.is_valid and "path" in cell else None
        if (buffer := _buffer(value)) is None:
            raise ParquetError(_missing(path), "empty")
        if buffer.size > most:
            raise ParquetError(f"the row's image has {buffer.size} bytes; at most {most} are read", "too_large")
        return bytes(buffer)


def plain_columns(schema: pa.Schema, names: Sequence[str]) -> list[str]:
    """The names that are columns of plain values: text, numbers or dates."""
    return [name for name in names if name in schema.names and _is_plain(schema.field(name).type)]


def plain_value(batch: pa.RecordBatch | pa.Table, name: str, row: int) -> Any:
    """A value of one of `plain_columns`.

    Raises:
        ParquetError: a text has more than `TEXT_BYTES`.
    """
    cell = batch.column(name)[row]
    value = cell.value if isinstance(cell, pa.DictionaryScalar) else cell
    if value is None or not value.is_valid:
        return None
    if _is_text(value.type) and (size := value.as_buffer().size) > TEXT_BYTES:
        raise ParquetError(f"column {name!r} of the row has {size} bytes; at most {TEXT_BYTES} are read", "too_large")
    return value.as_py()


def plain_rows(archive: Archive, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The plain values of each row in the named columns, as far as the archive has them."""
    columns = plain_columns(archive.schema, names)
    if not columns:
        yield from ({} for _ in range(archive.num_rows))
    for _, batch in archive.all_batches(columns, ROWS_BYTES):
        for row in range(batch.num_rows):
            yield {name: plain_value(batch, name, row) for name in columns}


def read_texts(archive: Archive, column: str) -> Iterator[str | None]:
    """A column of text, one value at a time, because a small file may repeat a long text a million times.

    Raises:
        ParquetError: the column is not text, or a text has more than `TEXT_BYTES`.
    """
    if not _is_text(kind := archive.schema.field(column).type):
        raise ParquetError(f"column {column!r} has the type {kind}, not text")
    return (row[column] for row in plain_rows(archive, (column,)))


def _missing(path: Any) -> str:
    where = plain_text(path)
    if not where:
        return "the row has no image"
    return f"the row has a path ({where!r}) but no bytes: color the files with --input-list"


def plain_text(cell: Any, most: int = 200) -> str:
    """The beginning of a text cell, for a message; "" if there is none."""
    if cell is None or (buffer := _buffer(cell)) is None:
        return ""
    return bytes(buffer.slice(0, min(buffer.size, most))).decode("utf-8", "replace")


def _buffer(cell: pa.Scalar) -> pa.Buffer | None:
    """The bytes of a cell, without copying."""
    value = cell.value if isinstance(cell, pa.DictionaryScalar) else cell
    return value.as_buffer() if value is not None and value.is_valid else None


def _is_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_bytes(kind.value_type)
    of_any_size = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    is_one_of = (*of_any_size, pa.types.is_fixed_size_binary, pa.types.is_null)  # null: all rows are null
    return any(is_it(kind) for is_it in is_one_of)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return any(is_it(kind) for is_it in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    is_one_of = (pa.types.is_primitive, pa.types.is_decimal, pa.types.is_null)
    return _is_text(kind) or any(is_it(kind) for is_it in is_one_of)
