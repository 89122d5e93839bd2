"""Planning Parquet archives: footers alone are read, and an archive that is at fault is a row of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from colorize.datasets.readers import fault_of
from colorize.datasets.settings import SourceSettings
from colorize.datasets.units import Unit, unit_of
from colorize.errors import UsageError, one_line
from colorize.settings import nearest
from colorize.storage.listing import Entry
from colorize.storage.local_files import LeadsOutError, LinkedFolderError
from colorize.storage.parquet import Archive
from colorize.storage.parquet_cells import ImageColumn
from colorize.storage.parquet_error import ParquetError, code_of, is_damage
from colorize.storage.root import Storage

OUTPUT_COLUMNS = ("colorized", "status", "error")  # what an archive's colored copy has beside the input's columns
MIN_SLICE_ROWS = 512
MAX_SLICES = 4  # of one row group: each slice reads the group from its start, so few
UNFIT = ("no_image_column", "column_taken")  # codes of archives that another setting or name would make fit


@dataclass(frozen=True)
class Plan:
    """Planned archives.

    Attributes:
        units: runs of rows, or one failed unit of an archive that cannot be colored.
        parts: how many rows of each archive a copy is to have; archives without rows, too.
        versions: the identity of each archive.
    """

    units: list[Unit]
    parts: dict[str, int]
    versions: dict[str, str]


def plan_archives(storage: Storage, archives: Sequence[Entry], settings: SourceSettings) -> Plan:
    """Reads the archives' footers.

    Raises:
        UsageError: the storage cannot be read now.
    """
    with ThreadPoolExecutor(settings.fetch_threads) as pool:
        plans = list(pool.map(lambda entry: _plan(storage, entry, settings), archives))
    parts = {entry.name: 0 for entry, plan in zip(archives, plans, strict=True) if not plan}  # no rows: still out
    units = [unit for plan in plans for unit in plan]
    for unit in units:
        if not unit["error"]:
            parts[unit["name"]] = parts.get(unit["name"], 0) + unit["count"]
    return Plan(units, parts, {entry.name: entry.identity for entry in archives})


def require_fit(plan: Plan) -> None:
    """Raises UsageError if no archive is fit, and a setting could be why: one that is wrong for all is a mistake."""
    unfit = [unit for unit in plan.units if unit["error"] in UNFIT]
    if unfit and not plan.parts:
        raise UsageError(unfit[0]["message"])


def _plan(storage: Storage, entry: Entry, settings: SourceSettings) -> list[Unit]:
    """The units of one archive; a single failed one if its name, its columns or its footer are unfit."""
    if (unit := unit_of(entry))["error"]:
        return [unit]
    try:
        with storage.open(entry.name) as file:
            archive = Archive(file)
    except (LeadsOutError, LinkedFolderError) as error:
        return [unit | fault_of(error)]
    except Exception as error:  # every storage library has fault classes of its own
        if not is_damage(error) and not isinstance(error, FileNotFoundError):  # whose earlier rows still hold
            raise UsageError(
                f"cannot read {storage.url(entry.name)}: {one_line(error)}; run again once it can be"
            ) from None
        return [unit_of(entry, error=code_of(error), message=one_line(error))]
    if fault := _fault(archive.schema, settings.image_column, storage.url(entry.name)):
        return [unit_of(entry, error=fault[0], message=fault[1])]
    return [unit | rows for rows in _slices(archive.row_counts)]


def _slices(row_counts: Sequence[int]) -> Iterator[dict[str, int]]:
    """Runs of rows, small enough for a task and large enough to be worth opening the file for."""
    first = 0
    for group, rows in enumerate(row_counts):
        step = max(MIN_SLICE_ROWS, math.ceil(rows / MAX_SLICES))
        for skip in range(0, rows, step):
            yield {"row_group": group, "skip": skip, "first": first + skip, "count": min(step, rows - skip)}
        first += rows


def _fault(schema: pa.Schema, column: str, url: str) -> tuple[str, str] | None:
    """Code and message of what keeps an archive from being colored."""
    clash = [name for name in OUTPUT_COLUMNS if name in schema.names]
    if clash and len(clash) < len(OUTPUT_COLUMNS):  # all of them: an output of ours itself
        return "column_taken", f"{url} has a column {clash[0]!r}, which the output adds: rename it in the archive"
    if column not in schema.names:
        hint = nearest(column, schema.names)
        return "no_image_column", (
            f"{url} has no column {column!r}{hint}; name it with --set source.image_column=..., "
            "or leave the file out with source.exclude"
        )
    try:
        ImageColumn.of(schema, column, url)
    except ParquetError as fault:
        return "no_image_column", str(fault)
    return None
