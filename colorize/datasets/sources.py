"""Where pictures come from: a tree of files or Parquet archives, planned as units that a load task can fetch.

Planning happens on the driver and touches names, sizes and Parquet footers, never a picture. Only a source
that cannot be used at all raises; a broken file or archive is planned like any other and fails in its row.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from colorize.datasets.input_list import read_input_list
from colorize.datasets.readers import UNIT_SCHEMA, ArchiveReader, FileReader, Reader, fault_of
from colorize.datasets.settings import SourceSettings
from colorize.errors import UsageError
from colorize.imaging.formats import ADDED_SUFFIX, PICTURE_SUFFIXES
from colorize.plain_text import one_line
from colorize.settings import nearest
from colorize.storage.listing import Entry
from colorize.storage.local_files import LeadsOutError, LinkedFolderError
from colorize.storage.parquet import Archive
from colorize.storage.parquet_cells import ImageColumn
from colorize.storage.parquet_error import ParquetError, code_of
from colorize.storage.root import LEDGER, Storage, escapes

OUTPUT_COLUMNS = ("colorized", "status", "error")  # what an archive's colored copy has beside the input's columns
MIN_SLICE_ROWS = 512
MAX_SLICES = 4  # of one row group: each slice reads the group from its start, so few

MAX_BLOCKS = 10_000  # of a plan: each is an object that Ray keeps track of
HASHED_NAMES = 2_000_000  # at once: of 1024 bytes each, the most that S3 allows, they fit into one array
LISTING_ROWS = 10_000  # gathered as Python objects before they become a table, which takes a tenth of the memory

Unit = dict[str, Any]  # one row of UNIT_SCHEMA


@dataclass(frozen=True)
class Source:
    """A planned source: who reads it, the units of work, and how many pictures they hold."""

    reader: Reader
    units: pa.Table = field(repr=False)  # of UNIT_SCHEMA
    units_per_batch: int
    parts: dict[str, int] | None = None  # Parquet only: archives to be written, and how many rows they wait for
    versions: dict[str, str] = field(default_factory=dict)  # Parquet only: the identity of each archive

    @property
    def storage(self) -> Storage:
        return self.reader.storage

    @property
    def total(self) -> int:
        """Pictures planned."""
        return pc.sum(self.units["count"]).as_py() or 0

    def names(self) -> Iterator[str]:
        """Each unit's name, in order; only some of them are in memory as Python's."""
        return (name for chunk in self.units["name"].chunks for name in chunk.to_pylist())

    def only(self, units: pa.Table, parts: dict[str, int] | None = None) -> Source:
        """A part of this source: fewer units, and of archives how many rows are still awaited."""
        return replace(self, units=units, parts=parts)

    def with_columns(self, *names: str) -> Source:
        """The same source; an archive's rows come with these of its columns, too."""
        if not isinstance(self.reader, ArchiveReader):
            return self
        return replace(self, reader=replace(self.reader, extra=names))

    def blocks(self) -> list[pa.Table]:
        """The units as tables of `UNIT_SCHEMA`, each the work of one load task."""
        step = max(self.units_per_batch, math.ceil(self.units.num_rows / MAX_BLOCKS))
        return [self.units.slice(i, step).combine_chunks() for i in range(0, self.units.num_rows, step)]


def open_source(uri: str, settings: SourceSettings, input_list: str | None = None) -> Source:
    """The source at `uri`, planned: a tree of picture files, a single file, or Parquet archives.

    A folder is a Parquet source if it holds `*.parquet` files and nothing that looks like a picture.

    Raises:
        UsageError: nothing is there, it is empty, or an archive lacks the image column.
    """
    return _plan(Storage(uri, settings.follow_links), input_list, settings)


def _plan(root: Storage, input_list: str | None, settings: SourceSettings) -> Source:
    storage, entries = _listing(root, input_list)
    units = _table(_unit(entry) for entry in entries)
    if not units.num_rows and input_list is not None:
        raise UsageError(f"--input-list {input_list} names no files: it is empty")
    if not units.num_rows:
        raise UsageError(f"there are no files in {root.uri}: name a folder of pictures or Parquet archives")
    if archives := _archives(units):
        return _plan_archives(storage, archives, settings)
    return Source(FileReader(storage, settings), _with_taken_names(units), settings.rows_per_task)


def _listing(storage: Storage, input_list: str | None) -> tuple[Storage, Iterable[Entry]]:
    """The root that names are relative to, and the files to color below it."""
    is_file = storage.is_file()
    if input_list is not None:
        if is_file:
            raise UsageError(f"--input {storage.url()} is a file; with --input-list it must be the root folder")
        return storage, map(storage.glance, read_input_list(input_list, storage))
    if is_file:
        root = storage.parent()
        return root, [root.entry(posixpath.basename(storage.root))]
    return storage, (entry for entry in storage.entries() if not entry.name.startswith(f"{LEDGER}/"))


def _archives(units: pa.Table) -> list[Entry]:
    """The Parquet files among the listed ones, if these are archives: none where there are pictures as well."""
    found = []
    for batch in units.select(["name", "size", "identity"]).to_batches():
        for entry in (Entry(**row) for row in batch.to_pylist()):
            suffix = PurePosixPath(entry.name).suffix.lower()
            if suffix in PICTURE_SUFFIXES:
                return []
            if suffix == ".parquet":
                found.append(entry)
    return found


def _with_taken_names(units: pa.Table) -> pa.Table:
    """Marks the units whose name plus `.png` is another unit's name: see `output_name`."""
    names = units["name"]
    taken = np.zeros(len(names), bool)
    for start in range(0, len(names), HASHED_NAMES):
        some = names.slice(start, HASHED_NAMES)
        suffixed = some.filter(pc.ends_with(some, ADDED_SUFFIX))
        if len(suffixed):
            stems = pc.utf8_slice_codeunits(suffixed, 0, -len(ADDED_SUFFIX))
            taken |= pc.is_in(names, value_set=stems).to_numpy()
    return units.set_column(units.schema.get_field_index("name_taken"), "name_taken", pa.array(taken))


def _table(units: Iterable[Unit]) -> pa.Table:
    remaining = iter(units)
    chunks = iter(lambda: list(islice(remaining, LISTING_ROWS)), [])
    tables = [pa.Table.from_pylist(chunk, schema=UNIT_SCHEMA) for chunk in chunks]
    return pa.concat_tables(tables) if tables else UNIT_SCHEMA.empty_table()


def _unit(entry: Entry, **rows: Any) -> Unit:
    place = {"row_group": -1, "skip": 0, "first": 0, "count": 1, "name_taken": False, "error": "", "message": ""}
    unit = {"name": entry.name, "size": entry.size, "identity": entry.identity, **place, **rows}
    if escapes(entry.name):  # a bucket's keys may be anything
        unit |= {"error": "bad_name", "message": f"{entry.name!r} leads out of the folder: rename it"}
    try:
        entry.name.encode()
    except UnicodeEncodeError:  # bytes on disk that are not UTF-8 can stand in no manifest
        unit["name"] = entry.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        unit |= {"error": "bad_name", "message": "the file's name is not valid UTF-8: rename it"}
    return unit


def _plan_archives(storage: Storage, archives: Sequence[Entry], settings: SourceSettings) -> Source:
    with ThreadPoolExecutor(settings.fetch_threads) as pool:
        plans = list(pool.map(lambda entry: _plan_archive(storage, entry, settings), archives))
    units = [unit for plan in plans for unit in plan]
    readable = [unit for unit in units if not unit["error"]]
    parts = {entry.name: 0 for entry, plan in zip(archives, plans, strict=True) if not plan}  # no rows: still out
    for unit in readable:
        parts[unit["name"]] = parts.get(unit["name"], 0) + unit["count"]
    versions = {entry.name: entry.identity for entry in archives}
    return Source(ArchiveReader(storage, settings), _table(units), 1, parts, versions)


def _plan_archive(storage: Storage, entry: Entry, settings: SourceSettings) -> list[Unit]:
    """The units of one archive; a single failed one if its name is unfit or its footer cannot be read."""
    if (unit := _unit(entry))["error"]:
        return [unit]
    try:
        with storage.open(entry.name) as file:
            archive = Archive(file)
    except (LeadsOutError, LinkedFolderError) as error:
        return [_unit(entry, **fault_of(error))]
    except Exception as error:  # every storage library has fault classes of its own
        if not _is_damage(error):
            raise UsageError(
                f"cannot read {storage.url(entry.name)}: {one_line(error)}; run again once it can be"
            ) from None
        return [_unit(entry, error=code_of(error), message=one_line(error))]
    _require_image_column(archive.schema, settings.image_column, storage.url(entry.name))
    _require_free_columns(archive.schema, storage.url(entry.name))
    return [_unit(entry, **rows) for rows in _slices(archive.row_counts)]


def _is_damage(error: Exception) -> bool:
    """Whether the file is at fault, not the storage, which may be well again soon: then earlier rows still hold.

    Arrow's own OSErrors are just that and have no number; a storage's have one, or a class of their own.
    """
    by_arrow = type(error) is OSError and error.errno is None
    return by_arrow or isinstance(error, pa.ArrowException | UnicodeDecodeError | FileNotFoundError)


def _slices(row_counts: Sequence[int]) -> Iterator[dict[str, int]]:
    """Runs of rows, small enough for a task and large enough to be worth opening the file for."""
    first = 0
    for group, rows in enumerate(row_counts):
        step = max(MIN_SLICE_ROWS, math.ceil(rows / MAX_SLICES))
        for skip in range(0, rows, step):
            yield {"row_group": group, "skip": skip, "first": first + skip, "count": min(step, rows - skip)}
        first += rows


def _require_free_columns(schema: pa.Schema, url: str) -> None:
    """Refuses columns that the output's would replace, unless the archive is an output of ours itself."""
    clash = [name for name in OUTPUT_COLUMNS if name in schema.names]
    if clash and len(clash) < len(OUTPUT_COLUMNS):
        raise UsageError(f"{url} has a column {clash[0]!r}, which the output adds: rename it in the archive")


def _require_image_column(schema: pa.Schema, column: str, url: str) -> None:
    if column not in schema.names:
        hint = nearest(column, schema.names)
        raise UsageError(f"{url} has no column {column!r}{hint}; name it with --set source.image_column=...")
    try:
        ImageColumn.of(schema, column, url)
    except ParquetError as fault:
        raise UsageError(str(fault)) from None
