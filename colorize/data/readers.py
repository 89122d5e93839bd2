"""How a worker gets the encoded pictures of its units: files with concurrent reads, archives row by row.

A fault of one picture or one archive becomes a `Raw` with an error code; nothing here raises for bad data.
"""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from colorize.config import SourceSettings
from colorize.data.storage import Storage, one_line

UNIT_SCHEMA = pa.schema(
    [
        ("name", pa.string()),  # of the file, relative to the source's root
        ("size", pa.int64()),  # bytes; -1 where unknown
        ("identity", pa.string()),
        ("row_group", pa.int64()),  # Parquet only, else -1: which rows of the archive this unit holds
        ("skip", pa.int64()),  # rows of the group before this unit's
        ("first", pa.int64()),  # number of this unit's first row in the whole archive
        ("count", pa.int64()),
        ("error", pa.string()),  # why the archive could not even be planned
        ("message", pa.string()),
    ]
)
LITTER = ("thumbs.db", "desktop.ini", ".ds_store")  # what operating systems leave among pictures


@dataclass(frozen=True, slots=True)
class Raw:
    """One input as fetched: encoded bytes, or the reason why there are none."""

    path: str  # what the manifest calls it
    data: bytes = b""
    identity: str = ""
    size: int = -1
    part: str = ""  # Parquet only: the archive, and the row's number in it
    row: int = -1
    skipped: bool = False  # with an error: not a failure, just none of our business
    error: str = ""
    message: str = ""


class Reader(Protocol):
    """What the load stage asks of a reader."""

    @property
    def storage(self) -> Storage:
        """The root that names are relative to."""
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
        rows = units.to_pylist()
        step = self.settings.rows_per_task
        with ThreadPoolExecutor(self.settings.fetch_threads) as pool:
            for i in range(0, len(rows), step):
                yield list(pool.map(self._fetch, rows[i : i + step]))

    def _fetch(self, unit: dict[str, Any]) -> Raw:
        name, identity = unit["name"], unit["identity"]
        if reason := self._not_ours(name):
            return Raw(name, identity=identity, size=unit["size"], skipped=True, error="excluded", message=reason)
        try:
            data = self.storage.read(name)
        except Exception as error:  # one file's fault, of whatever class the storage library raises
            message = one_line(error)
            return Raw(name, identity=identity, size=unit["size"], error="unreadable", message=message)
        return Raw(name, data, identity, len(data))

    def _not_ours(self, name: str) -> str:
        base = posixpath.basename(name).lower()
        if base in LITTER or base.startswith("._"):
            return "left by an operating system"
        include = self.settings.include
        if include and not any(fnmatch.fnmatchcase(name, pattern) for pattern in include):
            return f"matches none of source.include ({', '.join(include)})"
        return ""


@dataclass(frozen=True)
class ArchiveReader:
    """Reads the image column of Parquet archives; a unit is a run of rows of one row group."""

    storage: Storage
    settings: SourceSettings

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
            for images in self._read_images(unit):
                yield [_raw_row(unit, done + i, image) for i, image in enumerate(images)]
                done += len(images)
        except Exception as error:  # damaged pages raise OSError, ArrowException, or the storage's own classes
            message = one_line(error)
            yield [_broken_row(unit, offset, message) for offset in range(done, unit["count"])]

    def _read_images(self, unit: dict[str, Any]) -> Iterator[list[Any]]:
        skip, left = unit["skip"], unit["count"]
        group, column = [unit["row_group"]], [self.settings.image_column]
        with self.storage.open(unit["name"]) as file:
            for batch in pq.ParquetFile(file).iter_batches(self.settings.rows_per_task, group, column):
                images: Sequence[Any] = batch.column(0)[skip : skip + left].to_pylist()
                skip = max(skip - batch.num_rows, 0)
                left -= len(images)
                if images:
                    yield list(images)
                if not left:
                    return


def _place(unit: dict[str, Any], offset: int) -> dict[str, Any]:
    row = unit["first"] + offset
    return {"path": f"{unit['name']}#{row}", "part": unit["name"], "row": row, "identity": unit["identity"]}


def _raw_row(unit: dict[str, Any], offset: int, image: Any) -> Raw:
    data = image.get("bytes") if isinstance(image, dict) else image
    if data is None:
        return Raw(**_place(unit, offset), size=0, error="empty", message="the row holds no picture")
    return Raw(**_place(unit, offset), size=len(data), data=data)


def _broken_row(unit: dict[str, Any], offset: int, message: str) -> Raw:
    return Raw(**_place(unit, offset), error="corrupt_parquet", message=message)
