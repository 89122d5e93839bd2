"""The footer of a Parquet file, before Arrow's reader sees it: made harmless, and what it says of column chunks.

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
FOOTER_BYTES = 64 << 20  # of a footer that is read at all
SMALL_FOOTER = 1 << 20  # of one whose parts need not be counted before it is read
CODECS = ("", "snappy", "gzip", "", "brotli", "lz4_raw", "zstd", "lz4_raw")  # by their numbers; the first is none
UNPACKED = 0  # its number


@dataclass(frozen=True)
class Chunk:
    """A column's part of a row group.

    Attributes:
        path: of the column.
        codec: Arrow's name of what its pages are packed with; "" for none that Python can be asked for.
        is_packed: whether they are at all.
        values: how many it holds, nulls included.
        start: where its first page begins in the file.
        length: bytes of its pages, packed.
    """

    path: str
    codec: str
    is_packed: bool
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


def harmless_footer(footer: bytes) -> bytes:
    """The same footer with no name in its Arrow schema under which anything could be registered.

    A string stands in a footer, and in a schema in it, as one run of bytes: one that is found nowhere is not there,
    however the rest is to be read. A schema is kept only where nothing else could be taken for it.
    """
    if (count := footer.count(SCHEMA_KEY)) == 0:
        return footer
    is_doubtful = count > 1 or HIDDEN_SCHEMA_KEY in footer  # which of them would Arrow take, and which does this?
    hidden = footer.replace(SCHEMA_KEY, HIDDEN_SCHEMA_KEY)
    value = (parse_footer(hidden).metadata or {}).get(HIDDEN_SCHEMA_KEY, b"")
    try:
        schema = base64.b64decode(value, validate=True)
    except binascii.Error:
        return hidden
    if is_doubtful or not schema:
        return hidden
    renamed = base64.b64encode(schema.replace(NAME_KEY, HIDDEN_NAME_KEY))
    if len(renamed) != len(value):
        return hidden
    return footer.replace(value, renamed)


def parse_footer(footer: bytes) -> pq.FileMetaData:
    """The metadata of a footer alone. Arrow reads its schema as well: only of a footer that is harmless."""
    if len(footer) > SMALL_FOOTER:
        _fields(footer)  # refused where it has too many parts: each takes hundreds of bytes in memory
    return pq.read_metadata(pa.BufferReader(MAGIC + footer + len(footer).to_bytes(4, "little") + MAGIC))


def column_chunks(footer: bytes) -> list[list[Chunk]]:
    """The column chunks of each row group.

    Raises:
        ParquetError: the footer says no such thing.
    """
    try:
        return [[_chunk(column) for column in group[1]] for group in _fields(footer)[4]]
    except (KeyError, TypeError, AttributeError, IndexError):
        raise ParquetError("the footer does not say where the columns are") from None


def _fields(footer: bytes) -> dict[int, Any]:
    try:
        return CompactReader(footer).struct()
    except ThriftError as error:
        raise ParquetError(f"the footer is broken: {error}") from None


def _chunk(column: dict[int, Any]) -> Chunk:
    said = column[3]
    start, dictionary = said[9], said.get(11, 0)
    start = dictionary if 0 < dictionary < start else start
    chunk = Chunk(
        b".".join(said[3]).decode(errors="replace"), CODECS[said[4]], said[4] != UNPACKED, said[5], start, said[7]
    )
    if min(chunk.values, chunk.start, chunk.length) < 0:
        raise ParquetError("the footer has a size below 0")
    return chunk
