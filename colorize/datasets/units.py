"""The table of units, built from a listing page by page.

Tables above `IN_MEMORY` rows are written to a temporary file and memory-mapped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from colorize.datasets.exclusion import ARCHIVE_SUFFIX, Exclusion
from colorize.datasets.readers import UNIT_SCHEMA
from colorize.imaging.formats import IMAGE_SUFFIXES
from colorize.storage.listing import Entry, Page
from colorize.storage.root import escapes
from colorize.storage.spooled import SpooledTables

CHUNK_ROWS = 20_000
IN_MEMORY = 100_000

Unit = dict[str, Any]  # one row of UNIT_SCHEMA
_ALONE: Unit = {"row_group": -1, "skip": 0, "first": 0, "count": 1, "name_taken": False, "error": "", "message": ""}


@dataclass
class Listed:
    """The files of a source.

    Attributes:
        units: all files but `archives`.
        archives: Parquet files that are not excluded.
        images: number of files with an image's suffix.
    """

    units: pa.Table
    archives: list[Entry] = field(default_factory=list)
    images: int = 0


def list_units(pages: Iterable[Page | Sequence[Entry]], exclusion: Exclusion, in_bucket: bool = False) -> Listed:
    """Builds units from the pages of a listing, one page at a time."""
    listed = Listed(UNIT_SCHEMA.empty_table())
    with UnitTable() as table:
        for page in pages:
            table.append(_page_units(page, exclusion, listed, in_bucket))
        listed.units = table.finish()
    return listed


def _page_units(page: Page | Sequence[Entry], exclusion: Exclusion, listed: Listed, in_bucket: bool) -> pa.Table:
    """The units of a page; archives are appended to `listed`."""
    with suppress(UnicodeEncodeError):
        columns = page if isinstance(page, Page) else Page.of(page)
        if exclusion.lets_pass(columns.names):
            listed.images += len(page)
            return _file_units({"name": columns.names, "size": columns.sizes, "identity": columns.identities})
    found: list[Entry] = []
    faults: list[tuple[str, str]] = []
    for entry in page:
        name, error, message = entry.name, "", exclusion.reason(entry.name)
        if message or not _is_plain(name):
            unit = unit_of(entry, message, in_bucket)
            name, error, message = unit["name"], unit["error"], unit["message"]
        suffix = name[name.rfind(".") :].lower()
        if suffix == ARCHIVE_SUFFIX and not error:
            listed.archives.append(entry)
            continue
        listed.images += suffix in IMAGE_SUFFIXES and not error
        found.append(entry._replace(name=name))
        faults.append((error, message))
    values = zip(*(entry + fault for entry, fault in zip(found, faults, strict=True)), strict=True)
    return _file_units(dict(zip(("name", "size", "identity", "error", "message"), values, strict=False)))


def _file_units(columns: Mapping[str, Any]) -> pa.Table:
    """A table of `UNIT_SCHEMA` for files, from some of its columns."""
    count = len(columns.get("name", ()))
    arrays = [
        pa.array(columns[field.name], field.type)
        if field.name in columns
        else pa.repeat(pa.scalar(_ALONE.get(field.name), field.type), count)
        for field in UNIT_SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=UNIT_SCHEMA)


def _is_plain(name: str) -> bool:
    """Whether a name is certainly valid; `unit_of` checks the others."""
    return name.isascii() and ".." not in name and "\0" not in name and name[:1] != "/" and name[-1:] not in ("", "/")


def unit_of(entry: Entry, excluded: str = "", in_bucket: bool = False, **rows: Any) -> Unit:
    """The unit of a file, or of a run of an archive's rows. Bad names get an error."""
    unit = {"name": entry.name, "size": entry.size, "identity": entry.identity, **_ALONE, **rows}
    if excluded:
        unit |= {"error": "excluded", "message": excluded}
    if escapes(entry.name, in_bucket):
        unit |= {"error": "bad_name", "message": f"{entry.name!r} leads out of the folder: rename it"}
    elif entry.name.endswith("/") and not in_bucket:
        unit |= {"error": "bad_name", "message": f"{entry.name!r} is the name of a folder: rename it"}
    try:
        entry.name.encode()
    except UnicodeEncodeError:  # names that are not UTF-8 cannot be in a manifest
        unit["name"] = entry.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        unit |= {"error": "bad_name", "message": "the file's name is not valid UTF-8: rename it"}
    return unit


def units_table(units: Sequence[Unit]) -> pa.Table:
    """A table of `UNIT_SCHEMA`."""
    return pa.Table.from_pylist(list(units), schema=UNIT_SCHEMA)


def select_units(units: pa.Table, wanted: Callable[[int, int], NDArray[np.bool_]]) -> pa.Table:
    """Filters a table of units; `wanted(start, stop)` is the mask of a range of rows."""
    start = 0
    with UnitTable() as table:
        for batch in units.to_batches():
            stop = start + batch.num_rows
            table.append(pa.Table.from_batches([batch]).filter(pa.array(wanted(start, stop))))
            start = stop
        return table.finish()


class UnitTable:
    """A growing table of `UNIT_SCHEMA`, in memory, then in a file. A context manager."""

    def __init__(self) -> None:
        self._pending: list[pa.Table] = []
        self._held = 0  # pending rows
        self._chunks: list[pa.Table] = []
        self._rows = 0
        self._spooled: SpooledTables | None = None

    def __enter__(self) -> UnitTable:
        return self

    def __exit__(self, *_: object) -> None:
        if self._spooled is not None:
            self._spooled.close()

    def append(self, units: pa.Table) -> None:
        """Appends units."""
        if units.num_rows:
            self._pending.append(units)
        self._held += units.num_rows
        if self._held >= CHUNK_ROWS:
            self._flush()

    def finish(self) -> pa.Table:
        """The table, which stays valid after the `with` block."""
        self._flush()
        if self._spooled is None:
            return pa.concat_tables([UNIT_SCHEMA.empty_table(), *self._chunks])
        return self._spooled.mapped()

    def _flush(self) -> None:
        chunk = pa.concat_tables([UNIT_SCHEMA.empty_table(), *self._pending]).combine_chunks()
        self._pending, self._held = [], 0
        self._rows += chunk.num_rows
        if self._spooled is not None:
            self._spooled.write(chunk)
            return
        self._chunks.append(chunk)
        if self._rows > IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        self._spooled = SpooledTables(UNIT_SCHEMA)
        for chunk in self._chunks:
            self._spooled.write(chunk)
        self._chunks = []
