"""The manifest: one row per input with its result, stored as Parquet in `_colorize/manifest/`.

Each write task writes a part named by its run and a hash of its inputs, so a retried task replaces its part. If a path
is in several parts, the row of the newest run is valid. `compaction` merges the parts.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from colorize.errors import UsageError, one_line
from colorize.storage.listing import Entry
from colorize.storage.parquet import read_table, table_batches
from colorize.storage.parquet_error import is_damage
from colorize.storage.root import LEDGER, Storage

MANIFEST = f"{LEDGER}/manifest"
_PART = re.compile(rf"{MANIFEST}/(part|manifest)-[0-9]{{1,9}}-[^/]+\.parquet")  # the number is a run's
RUN_FILE = f"{LEDGER}/run.json"
PAGES_COLORED = "pages colored"  # in the message of a row if the copy has all pages of its source

Status = Literal["ok", "skipped", "failed"]

MANIFEST_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("output", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("message", pa.string()),
        ("format", pa.string()),
        ("mode", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("frames", pa.int64()),
        ("bytes_in", pa.int64()),
        ("bytes_out", pa.int64()),
        ("sha256_in", pa.string()),
        ("sha256_out", pa.string()),
        ("identity", pa.string()),
        ("triage", pa.string()),
        ("confidence", pa.float64()),
        ("finished", pa.float64()),
        ("model", pa.string()),
        ("model_sha256", pa.string()),
        ("settings_sha256", pa.string()),
        ("luma_exact", pa.bool_()),
        ("degraded", pa.string()),
        ("seconds", pa.float64()),
        ("run", pa.int64()),
    ]
)
READ_THREADS = 16
SMALL_BYTES = 256 << 10  # up to this size, files are read whole and concurrently
BUFFER_BYTES = 8 << 20  # approximate size of the tables read from larger files
GROUP_ROWS = 50_000  # rows per row group, which readers hold in memory
ROW_BYTES = 100  # approximate size of a row in a file
# Names and hashes are mostly unique, so dictionary encoding would only take time.
PARQUET = {"compression": "zstd", "use_dictionary": [
    name for name in MANIFEST_SCHEMA.names
    if name not in ("path", "output", "sha256_in", "sha256_out", "identity", "confidence", "finished", "seconds")
]}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Record:
    """One manifest row. Unknown strings are empty and unknown numbers 0, so no column is ever all null."""

    path: str
    output: str = ""
    status: Status = "ok"
    error: str = ""  # short code: truncated, not_an_image, ...
    message: str = ""  # one sentence
    format: str = ""
    mode: str = ""
    width: int = 0  # as stored in the file, before EXIF rotation
    height: int = 0
    frames: int = 0  # frames or pages; the copy has all pages of a TIFF, but only the first frame of other formats
    bytes_in: int = 0
    bytes_out: int = 0
    sha256_in: str = ""
    sha256_out: str = ""
    identity: str = ""  # modification time or ETag of the source
    triage: str = ""  # kind of the source: color, grey, grey_as_rgb, toned, blank, text, negative
    confidence: float = 0.0  # of the network, up to 1; 0 if not computed
    finished: float = 0.0  # Unix time when this row was written
    model: str = ""
    model_sha256: str = ""
    settings_sha256: str = ""
    luma_exact: bool = False  # the output's luminance is the source's, bit for bit
    degraded: str = ""  # the OOM fallback used, if any
    seconds: float = 0.0  # of work on this image in all stages
    run: int = 0  # number of the run that wrote this row, from 1 for each output

    def as_row(self) -> dict[str, Any]:
        """The row as a dict; 20 times as fast as `asdict`."""
        return {name: getattr(self, name) for name in self.__slots__}

    def failed(self, error: str, message: str) -> Record:
        """This record as a failure without output."""
        return replace(
            self,
            status="failed",
            error=error,
            message=message,
            output="",
            bytes_out=0,
            sha256_out="",
            luma_exact=False,
        )


def records_table(records: Iterable[Record]) -> pa.Table:
    """The records as a table of `MANIFEST_SCHEMA`."""
    return pa.Table.from_pylist([record.as_row() for record in records], schema=MANIFEST_SCHEMA)


def record_from(row: Mapping[str, Any]) -> Record:
    """The record of a row, which may have more columns."""
    return Record(**{name: row[name] for name in Record.__slots__})


def write_part(storage: Storage, records: Sequence[Record]) -> str:
    """Writes records of one run as a part; returns its name, which is a function of the run and the paths."""
    name = part_name(records[0].run, (record.path for record in records))
    write_rows(storage, name, records_table(records))
    return name


def part_name(run: int, of: Iterable[str]) -> str:
    """The name of a run's part with these inputs, or merged from these parts."""
    digest = hashlib.sha256("\n".join(sorted(of)).encode()).hexdigest()[:24]
    return f"{MANIFEST}/part-{run:06d}-{digest}.parquet"


def write_rows(storage: Storage, name: str, rows: pa.Table) -> None:
    """Writes one file of the manifest."""
    with storage.create(name) as file:
        pq.write_table(rows, file, row_group_size=GROUP_ROWS, **PARQUET)


def part_entries(storage: Storage) -> list[Entry]:
    """The files of the manifest, by name.

    Raises:
        UsageError: there is a Parquet file with another kind of name, which no run has written.
    """
    files = [entry for entry in storage.entries(MANIFEST) if entry.name.endswith(".parquet")]
    for entry in files:
        if not _PART.fullmatch(entry.name):
            raise UsageError(f"{storage.url(entry.name)} is not part of a manifest: no run uses this name; remove it")
    return sorted(files, key=lambda entry: entry.name)


def part_names(storage: Storage) -> list[str]:
    return [entry.name for entry in part_entries(storage)]


def last_run(parts: Iterable[str]) -> int:
    """The number of the newest run that wrote one of these files; 0 if there are none."""
    return max((int(name.rsplit("/", 1)[1].split("-")[1]) for name in parts), default=0)


def rows_about(parts: Iterable[Entry]) -> int:
    """The approximate number of rows of these files, estimated from their sizes."""
    return sum(entry.size for entry in parts) // ROW_BYTES


def read_rows(storage: Storage, part: str, columns: Sequence[str] = tuple(MANIFEST_SCHEMA.names)) -> pa.Table:
    """Some columns of one file; columns that an older release did not write are empty or 0.

    Raises:
        UsageError: the file is damaged or not a manifest.
    """
    with _opened(storage, part) as file:
        return _without_nulls(read_table(file, MANIFEST_SCHEMA, columns))


def row_tables(
    storage: Storage, parts: Sequence[Entry], columns: Sequence[str] = tuple(MANIFEST_SCHEMA.names)
) -> Iterator[tuple[int, pa.Table]]:
    """Reads several files in order; yields tables of at most `BUFFER_BYTES`, each with the index of its file.

    Small files are read ahead concurrently; only one table of a large file is in memory.
    """
    with ThreadPoolExecutor(READ_THREADS) as pool:
        waiting: deque[tuple[int, Future[pa.Table] | None]] = deque()

        def first() -> Iterator[tuple[int, pa.Table]]:
            index, future = waiting.popleft()
            tables = _tables(storage, parts[index].name, columns) if future is None else [future.result()]
            return ((index, table) for table in tables)

        for index, part in enumerate(parts):
            small = 0 <= part.size <= SMALL_BYTES
            waiting.append((index, pool.submit(read_rows, storage, part.name, columns) if small else None))
            if len(waiting) > READ_THREADS:
                yield from first()
        while waiting:
            yield from first()


def _tables(storage: Storage, part: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    with _opened(storage, part) as file:
        yield from map(_without_nulls, table_batches(file, MANIFEST_SCHEMA, columns, BUFFER_BYTES))


@contextmanager
def _opened(storage: Storage, part: str) -> Iterator[IO[bytes]]:
    try:
        with storage.open(part) as file:
            yield file
    except Exception as error:
        if not is_damage(error):
            raise
        reason = f"{storage.url(part)} is a damaged part of a manifest ({one_line(error)})"
        raise UsageError(f"{reason}: remove it, and `colorize bulk` redoes its inputs") from None


def _without_nulls(table: pa.Table) -> pa.Table:
    for index, kind in enumerate(table.schema):
        if table.column(index).null_count:
            empty = "" if pa.types.is_string(kind.type) else False if pa.types.is_boolean(kind.type) else 0
            table = table.set_column(index, kind, pc.fill_null(table.column(index), pa.scalar(empty, kind.type)))
    return table
