"""Read encoded images: files concurrently, archives row by row.

Bad data never raises: it becomes a `Raw` with an error code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from colorize.datasets.settings import SourceSettings
from colorize.errors import one_line
from colorize.imaging.formats import Encoded, ImageDecodeError
from colorize.imaging.settings import SizeLimits
from colorize.storage.local_files import LeadsOutError, LinkedFolderError
from colorize.storage.parquet import Archive
from colorize.storage.parquet_cells import IMAGE_BYTES, ImageColumn, plain_columns, plain_value
from colorize.storage.parquet_error import CORRUPT, ParquetError, code_of
from colorize.storage.parquet_repair import Losses
from colorize.storage.root import Storage

UNIT_SCHEMA = pa.schema(
    [
        ("name", pa.string()),  # of the file, relative to the source's root
        ("size", pa.int64()),  # bytes; -1 where unknown
        ("identity", pa.string()),
        ("row_group", pa.int64()),  # Parquet only, else -1: which rows of the archive this unit holds
        ("skip", pa.int64()),  # rows of the group before this unit's
        ("first", pa.int64()),  # number of this unit's first row in the whole archive
        ("count", pa.int64()),
        ("name_taken", pa.bool_()),  # another input has this name plus `.png`
        ("error", pa.string()),  # found while planning
        ("message", pa.string()),
    ]
)
STEP_ROWS = 64  # rows that a task holds at once, unless set
FETCH_BYTES = 64 << 20  # bytes that a task holds at once, if more than one image


@dataclass(frozen=True, slots=True)
class Raw:
    """One fetched input: encoded bytes (a file above `inline_bytes`), or an error."""

    path: str  # as in the manifest
    data: Encoded = b""
    identity: str = ""
    size: int = -1
    part: str = ""  # Parquet only: the archive, and the row in it
    row: int = -1
    name_taken: bool = False  # see UNIT_SCHEMA
    columns: Mapping[str, Any] = field(default_factory=dict)  # extra columns, see `with_columns`
    skipped: bool = False  # with an error: excluded, not failed
    error: str = ""
    message: str = ""


class Reader(Protocol):
    """Interface of the readers."""

    @property
    def storage(self) -> Storage:
        """The root of all names."""
        ...

    @property
    def settings(self) -> SourceSettings:
        """Its settings."""
        ...

    def fetch(self, units: pa.Table) -> Iterator[list[Raw]]:
        """The inputs of a table of `UNIT_SCHEMA`, in lists of at most `rows_per_task`."""
        ...

    def with_columns(self, names: tuple[str, ...]) -> Reader:
        """The same reader, which also reads these columns of archives."""
        ...


@dataclass(frozen=True)
class FileReader:
    """Reads image files; a unit is one file."""

    storage: Storage
    settings: SourceSettings
    max_bytes: int = SizeLimits().max_bytes  # larger files are not read

    def fetch(self, units: pa.Table) -> Iterator[list[Raw]]:
        with ThreadPoolExecutor(self.settings.fetch_threads) as pool:
            for step in self._steps(units.to_pylist()):
                yield list(pool.map(self._fetch, step))

    def with_columns(self, names: tuple[str, ...]) -> FileReader:
        return self

    def _steps(self, units: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        """Groups units by number and bytes."""
        step: list[dict[str, Any]] = []
        held = 0
        share = FETCH_BYTES // self.settings.fetch_threads  # assumed for a file of unknown size
        for unit in units:
            size = unit["size"] if unit["size"] >= 0 else share
            if step and (len(step) >= (self.settings.rows_per_task or STEP_ROWS) or held + size > FETCH_BYTES):
                yield step
                step, held = [], 0
            step.append(unit)
            held += size
        if step:
            yield step

    def _fetch(self, unit: dict[str, Any]) -> Raw:
        name, identity = unit["name"], unit["identity"]
        if unit["error"]:
            return _unplanned(unit)
        try:
            data = self.storage.load(name, unit["size"], self.settings.inline_bytes, self.max_bytes)
        except ImageDecodeError as error:
            return _unplanned(unit | {"error": error.code, "message": str(error)})
        except Exception as error:  # storage libraries raise many classes
            return _unplanned(unit | fault_of(error))
        return Raw(name, data, identity, len(data), name_taken=unit["name_taken"])


@dataclass(frozen=True)
class ArchiveReader:
    """Reads the image column of Parquet archives; a unit is a run of rows of one row group.

    `extra` columns of text, numbers or dates go to `Raw.columns`, if the archive has them.
    """

    storage: Storage
    settings: SourceSettings
    extra: tuple[str, ...] = ()
    max_bytes: int = IMAGE_BYTES  # larger images are not read

    def fetch(self, units: pa.Table) -> Iterator[list[Raw]]:
        for unit in units.to_pylist():
            if unit["error"]:
                again = {} if unit["error"] == "excluded" else {"identity": ""}  # bad archives are tried in each run
                yield [_unplanned(unit | again)]
            else:
                yield from self._fetch_rows(unit)

    def with_columns(self, names: tuple[str, ...]) -> ArchiveReader:
        return replace(self, extra=names)

    def _fetch_rows(self, unit: dict[str, Any]) -> Iterator[list[Raw]]:
        """The unit's rows; unreadable ones as failures."""
        done = 0
        try:
            for raws in self._read_rows(unit):
                yield raws
                done += len(raws)
        except Exception as error:  # missing columns, or storage errors of any class
            code, message = code_of(error), one_line(error)
            yield [Raw(**_place(unit, offset), error=code, message=message) for offset in range(done, unit["count"])]

    def _read_rows(self, unit: dict[str, Any]) -> Iterator[list[Raw]]:
        done, left = 0, unit["count"]
        with self.storage.open(unit["name"]) as file:
            archive = Archive(file)
            image = ImageColumn.of(archive.schema, self.settings.image_column)
            extra = plain_columns(archive.schema, self.extra)
            columns, at_once, skip = [*image.leaves, *extra], self.settings.rows_per_task or STEP_ROWS, unit["skip"]
            for batch, losses in archive.readable(unit["row_group"], columns, FETCH_BYTES, at_once):
                rows = range(min(skip, batch.num_rows), min(skip + left, batch.num_rows))
                skip, left = max(skip - batch.num_rows, 0), left - len(rows)
                if rows:
                    places = [_place(unit, done + i) for i in range(len(rows))]
                    yield [
                        self._raw_row(place, batch, row, image, extra, losses)
                        for place, row in zip(places, rows, strict=True)
                    ]
                    done += len(rows)
                if not left:
                    return

    def _raw_row(
        self,
        place: dict[str, Any],
        batch: pa.RecordBatch,
        row: int,
        image: ImageColumn,
        extra: Sequence[str],
        losses: Losses,
    ) -> Raw:
        if lost := losses.message(row, [image.leaves[0], *extra]):  # an image's `path` is not needed
            return Raw(**place, error=CORRUPT, message=lost)
        try:
            columns = {name: plain_value(batch, name, row) for name in extra}
            data = image.image(batch, row, self.max_bytes)
        except ParquetError as fault:
            return Raw(**place, size=0, error=fault.code, message=str(fault))
        return Raw(**place, size=len(data), data=data, columns=columns)


@dataclass(frozen=True)
class MixedReader:
    """Reads a source with both archives and image files."""

    files: FileReader
    archives: ArchiveReader

    @property
    def storage(self) -> Storage:
        return self.files.storage

    @property
    def settings(self) -> SourceSettings:
        return self.files.settings

    def fetch(self, units: pa.Table) -> Iterator[list[Raw]]:
        is_file = pc.less(units["row_group"], 0)
        yield from self.files.fetch(units.filter(is_file))
        yield from self.archives.fetch(units.filter(pc.invert(is_file)))

    def with_columns(self, names: tuple[str, ...]) -> MixedReader:
        return replace(self, archives=self.archives.with_columns(names))


def fault_of(error: Exception) -> dict[str, str]:
    """Code and message for a file that cannot be read."""
    if isinstance(error, LeadsOutError):
        return {"error": "leads_out", "message": f"{one_line(error)}, or allow it with `follow_links`"}
    return {"error": "excluded" if isinstance(error, LinkedFolderError) else "unreadable", "message": one_line(error)}


def _unplanned(unit: dict[str, Any]) -> Raw:
    """The failed or excluded input of a unit."""
    return Raw(
        unit["name"],
        identity=unit["identity"],
        size=unit["size"],
        skipped=unit["error"] == "excluded",
        error=unit["error"],
        message=unit["message"],
    )


def _place(unit: dict[str, Any], offset: int) -> dict[str, Any]:
    row = unit["first"] + offset
    return {"path": f"{unit['name']}#{row}", "part": unit["name"], "row": row, "identity": unit["identity"]}
