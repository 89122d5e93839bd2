"""The manifest: one row per input, what became of it and why, kept as Parquet under `_colorize/manifest/`.

Each write task leaves a part named after the inputs that it holds, so that a task which runs twice replaces its
part instead of adding one. When the run ends the parts are compacted into files of `manifest_rows` rows.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from colorize.data.storage import Storage

LEDGER = "_colorize"  # the folder under an output that holds what a run says of itself
MANIFEST = f"{LEDGER}/manifest"

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
        ("was_color", pa.bool_()),
        ("confidence", pa.float64()),
        ("finished", pa.float64()),
        ("model", pa.string()),
        ("model_sha256", pa.string()),
        ("settings_sha256", pa.string()),
        ("luma_exact", pa.bool_()),
        ("seconds", pa.float64()),
    ]
)


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
    frames: int = 0  # only the first is colored
    bytes_in: int = 0
    bytes_out: int = 0
    sha256_in: str = ""
    sha256_out: str = ""
    identity: str = ""  # modification time or ETag of the source
    was_color: bool = False  # the source had colors of its own
    confidence: float = 0.0  # of the network in its colors, up to 1; 0 where it was not asked
    finished: float = 0.0  # Unix time when this row was settled
    model: str = ""
    model_sha256: str = ""
    settings_sha256: str = ""
    luma_exact: bool = False  # the output's luminance is the source's, bit for bit
    seconds: float = 0.0  # of work on this picture, all stages together

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
    return pa.Table.from_pylist([asdict(record) for record in records], schema=MANIFEST_SCHEMA)


def record_from(row: Mapping[str, Any]) -> Record:
    """A record from a row that holds at least its columns."""
    return Record(**{name: row[name] for name in MANIFEST_SCHEMA.names})


def write_part(storage: Storage, records: Sequence[Record]) -> None:
    """Writes the records as one part, under a name that is a function of the inputs they speak of."""
    if not records:
        return
    paths = "\n".join(sorted(record.path for record in records))
    name = f"{MANIFEST}/part-{hashlib.sha256(paths.encode()).hexdigest()[:24]}.parquet"
    with storage.create(name) as file:
        pq.write_table(records_table(records), file, compression="zstd")


def compact(storage: Storage, rows_per_file: int, lost_archives: Mapping[str, str] | None = None) -> Counter[str]:
    """Merges all parts into files of `rows_per_file` rows, one row a path; returns the number of rows per status.

    A path that stands in two parts (a task that ran twice) keeps its first row. Rows of `lost_archives` (archives
    that could not be written, and why) become failures. The new files have names of their own and the old ones go
    last, so that a reader, who takes each path once, finds every row at any moment.
    """
    parts = _part_names(storage)
    merged = [name.rsplit("/", 1)[1] for name in parts if "/manifest-" in name]
    generation = 1 + max((int(name.split("-")[1]) for name in merged), default=0)
    states: Counter[str] = Counter()
    for number, table in enumerate(_chunks(_unique_rows(storage, parts, lost_archives or {}), rows_per_file)):
        with storage.create(f"{MANIFEST}/manifest-{generation:03d}-{number:05d}.parquet") as file:
            pq.write_table(table, file, compression="zstd")
        states.update(table["status"].to_pylist())
    for part in parts:
        storage.delete(part)
    return states


def read_manifest(storage: Storage) -> pa.Table:
    """The whole manifest of an output, each path once, in no particular order."""
    tables = list(_unique_rows(storage, _part_names(storage), {}))
    return pa.concat_tables(tables) if tables else MANIFEST_SCHEMA.empty_table()


def _part_names(storage: Storage) -> list[str]:
    return sorted(entry.name for entry in storage.entries(MANIFEST) if entry.name.endswith(".parquet"))


def _unique_rows(storage: Storage, parts: Sequence[str], lost_archives: Mapping[str, str]) -> Iterator[pa.Table]:
    seen: set[bytes] = set()  # 16 bytes a path, not the path
    for part in parts:
        with storage.open(part) as file:
            table = pq.read_table(file, schema=MANIFEST_SCHEMA)
        keep = []
        for path in table.column("path").to_pylist():
            key = hashlib.blake2b(path.encode(), digest_size=16).digest()
            keep.append(key not in seen)
            seen.add(key)
        table = table.filter(pa.array(keep, pa.bool_()))
        yield _without_archives(table, lost_archives) if lost_archives else table


def _without_archives(table: pa.Table, lost: Mapping[str, str]) -> pa.Table:
    records = [record_from(row) for row in table.to_pylist()]
    archives = [record.path.rpartition("#")[0] for record in records]
    return records_table(
        record.failed("archive_unreadable", lost[archive]) if archive in lost and record.status == "ok" else record
        for record, archive in zip(records, archives, strict=True)
    )


def _chunks(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows, in tables of `rows` rows (the last one shorter)."""
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += table.num_rows
        while count >= rows:
            whole = pa.concat_tables(held)
            yield whole.slice(0, rows)
            held, count = [whole.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(held)
