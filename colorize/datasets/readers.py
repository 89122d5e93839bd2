"""How a worker gets the encoded images of its units: files with concurrent reads, archives row by row.

A fault of one image or one archive becomes a `Raw` with an error code; nothing here raises for bad data.
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
from colorize.storage.parquet_mending import Losses
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
        ("name_taken", pa.bool_()),  # another input is called like this one with `.png` added
        ("error", pa.string()),  # why it could not even be planned
        ("message", pa.string()),
    ]
)
STEP_ROWS = 64  # the most that one step of a task holds at once, where the settings do not say
FETCH_BYTES = 64 << 20  # about what one step of a task holds at once, or one image


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

    def with_columns(self, names: tuple[str, ...]) -> Reader:
        """The same, and an archive's rows come with these of its columns, too."""
        ...


@dataclass(frozen=True)
class FileReader:
    """Reads image files; a unit is a name."""

    storage: Storage
    settings: SourceSettings
    max_bytes: int = SizeLimits().max_bytes  # of a file: of a larger one nothing is read

    def fetch(self, units: pa.Table) -> Iterator[list[Raw]]:
        with ThreadPoolExecutor(self.settings.fetch_threads) as pool:
            for step in self._steps(units.to_pylist()):
                yield list(pool.map(self._fetch, step))

    def with_columns(self, names: tuple[str, ...]) -> FileReader:
        return self

    def _steps(self, units: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        """Cuts where a step has rows enough, or bytes enough."""
        step: list[dict[str, Any]] = []
        held = 0
        share = FETCH_BYTES // self.settings.fetch_threads  # of a file of unknown size
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
        except Exception as error:  # one file's fault, of whatever class the storage library raises
            return _unplanned(unit | fault_of(error))
        return Raw(name, data, identity, len(data), name_taken=unit["name_taken"])


@dataclass(frozen=True)
class ArchiveReader:
    """Reads the image column of Parquet archives; a unit is a run of rows of one row group.

    `extra` columns come along in `Raw.columns`, from those archives that have them as text, numbers or dates.
    """

    storage: Storage
    settings: SourceSettings
    extra: tuple[str, ...] = ()
    max_bytes: int = IMAGE_BYTES  # of an image: of a larger one nothing is read

    def fetch(self, units: pa.Table) -> Iterator[list[Raw]]:
        for unit in units.to_pylist():
            if unit["error"]:
                again = {} if unit["error"] == "excluded" else {"identity": ""}  # an archive is tried in each run
                yield [_unplanned(unit | again)]
            else:
                yield from self._fetch_rows(unit)

    def with_columns(self, names: tuple[str, ...]) -> ArchiveReader:
        return replace(self, extra=names)

    def _fetch_rows(self, unit: dict[str, Any]) -> Iterator[list[Raw]]:
        """The unit's rows; those that cannot be read as failures."""
        done = 0
        try:
            for raws in self._read_rows(unit):
                yield raws
                done += len(raws)
        except Exception as error:  # columns that are gone, or the storage's own classes
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
        if lost := losses.message(row, [image.leaves[0], *extra]):  # the path within an image is for messages alone
            return Raw(**place, error=CORRUPT, message=lost)
        try:
            columns = {name: plain_value(batch, name, row) for name in extra}
            data = image.image(batch, row, self.max_bytes)
        except ParquetError as fault:
            return Raw(**place, size=0, error=fault.code, message=str(fault))
        return Raw(**place, size=len(data), data=data, columns=columns)


@dataclass(frozen=True)
class MixedReader:
    """Reads archives and image files that lie in one source; of archives a unit has a row group."""

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
    """Code and message of a file that cannot be read; `excluded` for what is no file of this input at all."""
    if isinstance(error, LeadsOutError):
        return {"error": "leads_out", "message": f"{one_line(error)}, or allow it with `follow_links`"}
    return {"error": "excluded" if isinstance(error, LinkedFolderError) else "unreadable", "message": one_line(error)}


def _unplanned(unit: dict[str, Any]) -> Raw:
    """A unit that there is no image of, and the reason."""
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
