"""How a worker gets the encoded pictures of its units: files with concurrent reads, archives row by row.

A fault of one picture or one archive becomes a `Raw` with an error code; nothing here raises for bad data.
"""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from colorize.datasets.settings import SourceSettings
from colorize.imaging.formats import Encoded
from colorize.storage.root import TEMPORARY_PREFIX, Storage, one_line

UNIT_SCHEMA = pa.schema(
    [
        ("name", pa.string()),  # of the file, relative to the source's root
        ("size", pa.int64()),  # bytes; -1 where unknown
        ("identity", pa.string()),
        ("row_group", pa.int64()),  # Parquet only, else -1: which rows of the archive this unit holds
        ("skip", pa.int64()),  # rows of the group before this unit's
        ("first", pa.int64()),  # number of this unit's first row in the whole archive
        ("count", pa.int64()),
        ("name_taken", pa.bool_()),  # another input is called like this one with `.png` added
        ("error", pa.string()),  # why it could not even be planned
        ("message", pa.string()),
    ]
)
LITTER = ("thumbs.db", "desktop.ini", ".ds_store")  # what operating systems leave among pictures
FETCH_BYTES = 64 << 20  # about what one step of a task holds at once, or one picture


@dataclass(frozen=True, slots=True)
class Raw:
    """One input as fetched: encoded bytes (a file above `inline_bytes`), or the reason why there are none."""

    path: str  # what the manifest calls it
    data: Encoded = b""
    identity: str = ""
    size: int = -1
    part: str = ""  # Parquet only: the archive, and the row's number in it
    row: int = -1
    name_taken: bool = False  # see UNIT_SCHEMA
    columns: Mapping[str, Any] = field(default_factory=dict)  # others that the reader was asked for
    skipped: bool = False  # with an error: not a failure, just none of our business
    error: str = ""
    message: str = ""


class Reader(Protocol):
    """What the load stage asks of a reader."""

    @property
    def storage(self) -> Storage:
        """The root that names are relative to."""
        ...

    @property
    def settings(self) -> SourceSettings:
        """How it reads."""
        ...

    def fetch(self, units: pa.Table) -> Iterator[list[Raw]]:
        """The inputs of some units (a table of `UNIT_SCHEMA`), in lists of at most `rows_per_task`."""
        ...


@dataclass(frozen=True)
class FileReader:
    """Reads picture files; a unit is a name."""

    storage: Storage
    settings: SourceSettings

    def fetch(self, units: pa.Table) -> Iterator[list[Raw]]:
        with ThreadPoolExecutor(self.settings.fetch_threads) as pool:
            for step in self._steps(units.to_pylist()):
                yield list(pool.map(self._fetch, step))

    def _steps(self, units: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        """Cuts where a step has rows enough, or bytes enough."""
        step: list[dict[str, Any]] = []
        held = 0
        share = FETCH_BYTES // self.settings.fetch_threads  # of a file of unknown size
        for unit in units:
            size = unit["size"] if unit["size"] >= 0 else share
            if step and (len(step) >= self.settings.rows_per_task or held + size > FETCH_BYTES):
                yield step
                step, held = [], 0
            step.append(unit)
            held += size
        if step:
            yield step

    def _fetch(self, unit: dict[str, Any]) -> Raw:
        name, identity = unit["name"], unit["identity"]
        if unit["error"]:
            return Raw(name, identity=identity, size=unit["size"], error=unit["error"], message=unit["message"])
        if reason := excluded(name, self.settings.include):
            return Raw(name, identity=identity, size=unit["size"], skipped=True, error="excluded", message=reason)
        try:
            data = self.storage.load(name, unit["size"], self.settings.inline_bytes)
        except Exception as error:  # one file's fault, of whatever class the storage library raises
            message = one_line(error)
            return Raw(name, identity=identity, size=unit["size"], error="unreadable", message=message)
        return Raw(name, data, identity, len(data), name_taken=unit["name_taken"])


@dataclass(frozen=True)
class ArchiveReader:
    """Reads the image column of Parquet archives; a unit is a run of rows of one row group.

    `extra` columns come along in `Raw.columns`, from those archives that have them.
    """

    storage: Storage
    settings: SourceSettings
    extra: tuple[str, ...] = ()

    def fetch(self, units: pa.Table) -> Iterator[list[Raw]]:
        for unit in units.to_pylist():
            if unit["error"]:
                yield [Raw(unit["name"], size=unit["size"], error=unit["error"], message=unit["message"])]
            else:
                yield from self._fetch_rows(unit)

    def _fetch_rows(self, unit: dict[str, Any]) -> Iterator[list[Raw]]:
        """The unit's rows; where the archive breaks off in the middle, the rest of them as failures."""
        done = 0
        try:
            for rows in self._read_rows(unit):
                yield [_raw_row(unit, done + i, row, self.settings.image_column) for i, row in enumerate(rows)]
                done += len(rows)
        except Exception as error:  # damaged pages raise OSError, ArrowException, or the storage's own classes
            message = one_line(error)
            yield [_broken_row(unit, offset, message) for offset in range(done, unit["count"])]

    def _read_rows(self, unit: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
        skip, left = unit["skip"], unit["count"]
        with self.storage.open(unit["name"]) as file:
            archive = pq.ParquetFile(file)
            columns = [self.settings.image_column, *set(self.extra).intersection(archive.schema_arrow.names)]
            at_once = _rows_at_once(archive.metadata.row_group(unit["row_group"]), self.settings.rows_per_task)
            for batch in archive.iter_batches(at_once, [unit["row_group"]], columns):
                rows: list[dict[str, Any]] = batch.slice(skip, left).to_pylist()
                skip = max(skip - batch.num_rows, 0)
                left -= len(rows)
                if rows:
                    yield rows
                if not left:
                    return


def _rows_at_once(group: pq.RowGroupMetaData, most: int) -> int:
    """How many rows of a group, `most` at most, hold about `FETCH_BYTES`."""
    fitting: int = FETCH_BYTES * group.num_rows // max(group.total_byte_size, 1)
    return max(1, min(most, fitting))


def excluded(name: str, include: Sequence[str]) -> str:
    """Why a file is none of our business, or ""."""
    base = posixpath.basename(name).lower()
    if base in LITTER or base.startswith("._"):
        return "left by an operating system"
    if base.startswith(TEMPORARY_PREFIX):
        return "left by an interrupted run"
    if include and not any(fnmatch.fnmatchcase(name, pattern) for pattern in include):
        return f"matches none of source.include ({', '.join(include)})"
    return ""


def _place(unit: dict[str, Any], offset: int) -> dict[str, Any]:
    row = unit["first"] + offset
    return {"path": f"{unit['name']}#{row}", "part": unit["name"], "row": row, "identity": unit["identity"]}


def _raw_row(unit: dict[str, Any], offset: int, row: dict[str, Any], image_column: str) -> Raw:
    image = row.pop(image_column)
    data = image.get("bytes") if isinstance(image, dict) else image
    if data is None:
        return Raw(**_place(unit, offset), size=0, error="empty", message="the row holds no picture")
    return Raw(**_place(unit, offset), size=len(data), data=data, columns=row)


def _broken_row(unit: dict[str, Any], offset: int, message: str) -> Raw:
    return Raw(**_place(unit, offset), error="corrupt_parquet", message=message)
