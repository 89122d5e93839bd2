"""The manifest: one row per input, what became of it and why, kept as Parquet under `_colorize/manifest/`.

Each write task leaves a part named after its run and the inputs that it holds, so that a task which runs twice
replaces its part instead of adding one. Where a path stands in several parts the newest run's row counts;
`compaction` merges them.
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
PAGES_COLORED = "pages colored"  # in the message of a row whose copy has all pages of its source

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
SMALL_BYTES = 256 << 10  # of a file that is read whole, beside others
HELD_BYTES = 8 << 20  # about what is read of a larger one at once
GROUP_ROWS = 50_000  # of a row group: a reader holds one in memory
ROW_BYTES = 100  # of a row in a file, about
# Names and hashes hardly ever repeat: dictionaries of them take time and are thrown away.
PARQUET = {"compression": "zstd", "use_dictionary": [
    name for name in MANIFEST_SCHEMA.names
    if name not in ("path", "output", "sha256_in", "sha256_out", "identity", "confidence", "finished", "seconds")
]}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Record:
    """One manifest row. Unknown strings are empty and unknown numbers 0, so that no column is ever all null."""

    path: str
    output: str = ""
    status: Status = "ok"
    error: str = ""  # short and countable: truncated, not_an_image, ...
    message: str = ""  # one sentence for a person
    format: str = ""
    mode: str = ""
    width: int = 0  # as stored in the file, before any EXIF rotation
    height: int = 0
    frames: int = 0  # frames or pages; of TIFF all are in the copy, of others the first
    bytes_in: int = 0
    bytes_out: int = 0
    sha256_in: str = ""
    sha256_out: str = ""
    identity: str = ""  # modification time or ETag of the source
    triage: str = ""  # what the source is: color, grey, grey_as_rgb, toned, blank, text, negative
    confidence: float = 0.0  # of the network in its colors, up to 1; 0 where it was not asked
    finished: float = 0.0  # Unix time when this row was settled
    model: str = ""
    model_sha256: str = ""
    settings_sha256: str = ""
    luma_exact: bool = False  # the output's luminance is the source's, bit for bit
    degraded: str = ""  # how the network was run with less than asked for, where memory had run out
    seconds: float = 0.0  # of work on this image, all stages together
    run: int = 0  # number of the run that wrote this row, counted from 1 for each output

    def as_row(self) -> dict[str, Any]:
        """Its columns; `asdict` takes twenty times as long."""
        return {name: getattr(self, name) for name in self.__slots__}

    def failed(self, error: str, message: str) -> Record:
        """This record as a failure, with no output."""
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
    """A record from a row that holds at least its columns."""
    return Record(**{name: row[name] for name in Record.__slots__})


def write_part(storage: Storage, records: Sequence[Record]) -> str:
    """Writes some records of one run as a part; returns its name, which is a function of the inputs they speak of."""
    name = part_name(records[0].run, (record.path for record in records))
    write_rows(storage, name, records_table(records))
    return name


def part_name(run: int, of: Iterable[str]) -> str:
    """The name of a run's part that holds these inputs, or these parts."""
    digest = hashlib.sha256("\n".join(sorted(of)).encode()).hexdigest()[:24]
    return f"{MANIFEST}/part-{run:06d}-{digest}.parquet"


def write_rows(storage: Storage, name: str, rows: pa.Table) -> None:
    """Writes one file of the manifest."""
    with storage.create(name) as file:
        pq.write_table(rows, file, row_group_size=GROUP_ROWS, **PARQUET)


def part_entries(storage: Storage) -> list[Entry]:
    """The files that the manifest consists of, by name.

    Raises:
        UsageError: one that no run has written lies among them: it may say anything, of any run.
    """
    files = [entry for entry in storage.entries(MANIFEST) if entry.name.endswith(".parquet")]
    for entry in files:
        if not _PART.fullmatch(entry.name):
            raise UsageError(f"{storage.url(entry.name)} is no part of a manifest, which no run calls so: remove it")
    return sorted(files, key=lambda entry: entry.name)


def part_names(storage: Storage) -> list[str]:
    """Their names."""
    return [entry.name for entry in part_entries(storage)]


def last_run(parts: Iterable[str]) -> int:
    """The number of the newest run that left one of these files; 0 if there are none."""
    return max((int(name.rsplit("/", 1)[1].split("-")[1]) for name in parts), default=0)


def rows_about(parts: Iterable[Entry]) -> int:
    """How many rows these files hold, guessed from their sizes."""
    return sum(entry.size for entry in parts) // ROW_BYTES


def read_rows(storage: Storage, part: str, columns: Sequence[str] = tuple(MANIFEST_SCHEMA.names)) -> pa.Table:
    """Some columns of one file; what an older release did not write is empty or 0.

    Raises:
        UsageError: it is damaged, or no manifest.
    """
    with _opened(storage, part) as file:
        return _without_nulls(read_table(file, MANIFEST_SCHEMA, columns))


def row_tables(
    storage: Storage, parts: Sequence[Entry], columns: Sequence[str] = tuple(MANIFEST_SCHEMA.names)
) -> Iterator[tuple[int, pa.Table]]:
    """The same of several files, in order: tables of `HELD_BYTES` at most, each with the index of its file.

    Small files are read ahead, several at once; of a large one no more than a table is in memory.
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
        yield from map(_without_nulls, table_batches(file, MANIFEST_SCHEMA, columns, HELD_BYTES))


@contextmanager
def _opened(storage: Storage, part: str) -> Iterator[IO[bytes]]:
    try:
        with storage.open(part) as file:
            yield file
    except Exception as error:
        if not is_damage(error):
            raise
        reason = f"{storage.url(part)} is no whole part of a manifest ({one_line(error)})"
        raise UsageError(f"{reason}: remove it, and `colorize bulk` does its inputs again") from None


def _without_nulls(table: pa.Table) -> pa.Table:
    for index, kind in enumerate(table.schema):
        if table.column(index).null_count:
            empty = "" if pa.types.is_string(kind.type) else False if pa.types.is_boolean(kind.type) else 0
            table = table.set_column(index, kind, pc.fill_null(table.column(index), pa.scalar(empty, kind.type)))
    return table
