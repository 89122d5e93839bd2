"""Parses and sanitizes the footer of a Parquet file before Arrow reads it.

https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

import base64
import binascii
import io
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from colorize.storage.parquet_error import ParquetError
from colorize.storage.parquet_types import HIDDEN_NAME_KEY, HIDDEN_SCHEMA_KEY, NAME_KEY, SCHEMA_KEY
from colorize.storage.thrift import CompactReader, ThriftError

MAGIC = b"PAR1"
FOOTER_BYTES = 64 << 20  # maximum size of a footer
SMALL_FOOTER = 1 << 20  # larger footers are checked for too many parts first
CODECS = ("", "snappy", "gzip", "", "brotli", "lz4_raw", "zstd", "lz4_raw")  # by CompressionCodec
UNCOMPRESSED = 0  # of CompressionCodec


@dataclass(frozen=True)
class Chunk:
    """A column chunk.

    Attributes:
        path: of the column.
        codec: Arrow's name of the compression codec; "" if there is none or Arrow has no codec for it.
        is_compressed: whether its pages are compressed.
        values: number of values, including nulls.
        start: offset of its first page in the file.
        length: compressed size of its pages in bytes.
    """

    path: str
    codec: str
    is_compressed: bool
    values: int
    start: int
    length: int


def read_footer(file: IO[bytes]) -> bytes:
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


def sanitize_footer(footer: bytes) -> bytes:
    """The footer without names of extension types in its Arrow schema.

    Strings are contiguous bytes in the footer and in the schema, so replacing bytes is sufficient, whatever the rest of
    the footer is. The schema is dropped if it is ambiguous which one Arrow would use.
    """
    if (count := footer.count(SCHEMA_KEY)) == 0:
        return footer
    is_ambiguous = count > 1 or HIDDEN_SCHEMA_KEY in footer
    hidden = footer.replace(SCHEMA_KEY, HIDDEN_SCHEMA_KEY)
    value = (parse_footer(hidden).metadata or {}).get(HIDDEN_SCHEMA_KEY, b"")
    try:
        schema = base64.b64decode(value, validate=True)
    except binascii.Error:
        return hidden
    if is_ambiguous or not schema:
        return hidden
    renamed = base64.b64encode(schema.replace(NAME_KEY, HIDDEN_NAME_KEY))
    if len(renamed) != len(value):
        return hidden
    return footer.replace(value, renamed)


def parse_footer(footer: bytes) -> pq.FileMetaData:
    """Arrow's metadata of a sanitized footer."""
    if len(footer) > SMALL_FOOTER:
        _fields(footer)  # raises if it has too many parts, each of which takes hundreds of bytes in memory
    return pq.read_metadata(pa.BufferReader(MAGIC + footer + len(footer).to_bytes(4, "little") + MAGIC))


def column_chunks(footer: bytes) -> list[list[Chunk]]:
    """The column chunks of each row group.

    Raises:
        ParquetError: the footer is damaged.
    """
    try:
        return [[_chunk(column) for column in group[1]] for group in _fields(footer)[4]]
    except (KeyError, TypeError, AttributeError, IndexError):
        raise ParquetError("the footer has no column chunks") from None


def _fields(footer: bytes) -> dict[int, Any]:
    try:
        return CompactReader(footer).struct()
    except ThriftError as error:
        raise ParquetError(f"the footer is damaged: {error}") from None


def _chunk(column: dict[int, Any]) -> Chunk:
    metadata = column[3]
    start, dictionary = metadata[9], metadata.get(11, 0)
    start = dictionary if 0 < dictionary < start else start
    chunk = Chunk(
        b".".join(metadata[3]).decode(errors="replace"),
        CODECS[metadata[4]],
        metadata[4] != UNCOMPRESSED,
        metadata[5],
        start,
        metadata[7],
    )
    if min(chunk.values, chunk.start, chunk.length) < 0:
        raise ParquetError("the footer has a negative size")
    return chunk
