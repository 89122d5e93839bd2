"""Plans Parquet archives from their footers. A bad archive becomes one failed unit."""

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

OUTPUT_COLUMNS = ("colorized", "status", "error")  # columns that the output adds
MIN_SLICE_ROWS = 512
MAX_SLICES = 4  # per row group; each slice reads the group from its start
UNFIT = ("no_image_column", "column_taken")  # codes that a setting or another name could fix


@dataclass(frozen=True)
class Plan:
    """Planned archives.

    Attributes:
        units: runs of rows; one failed unit for a bad archive.
        parts: number of rows of each good archive, which may be 0.
        versions: identity of each archive.
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
    parts = {entry.name: 0 for entry, plan in zip(archives, plans, strict=True) if not plan}  # no rows: still copied
    units = [unit for plan in plans for unit in plan]
    for unit in units:
        if not unit["error"]:
            parts[unit["name"]] = parts.get(unit["name"], 0) + unit["count"]
    return Plan(units, parts, {entry.name: entry.identity for entry in archives})


def require_fit(plan: Plan) -> None:
    """Raises UsageError if no archive is usable and a setting could be the reason."""
    unfit = [unit for unit in plan.units if unit["error"] in UNFIT]
    if unfit and not plan.parts:
        raise UsageError(unfit[0]["message"])


def _plan(storage: Storage, entry: Entry, settings: SourceSettings) -> list[Unit]:
    """The units of one archive, or a single failed one."""
    if (unit := unit_of(entry))["error"]:
        return [unit]
    try:
        with storage.open(entry.name) as file:
            archive = Archive(file)
    except (LeadsOutError, LinkedFolderError) as error:
        return [unit | fault_of(error)]
    except Exception as error:  # storage libraries raise many classes
        if not is_damage(error) and not isinstance(error, FileNotFoundError):  # whose earlier rows still count
            raise UsageError(
                f"cannot read {storage.url(entry.name)}: {one_line(error)}; run again when it is available"
            ) from None
        return [unit_of(entry, error=code_of(error), message=one_line(error))]
    if fault := _fault(archive.schema, settings.image_column, storage.url(entry.name)):
        return [unit_of(entry, error=fault[0], message=fault[1])]
    return [unit | rows for rows in _slices(archive.row_counts)]


def _slices(row_counts: Sequence[int]) -> Iterator[dict[str, int]]:
    """Splits row groups into runs of rows for the tasks."""
    first = 0
    for group, rows in enumerate(row_counts):
        step = max(MIN_SLICE_ROWS, math.ceil(rows / MAX_SLICES))
        for skip in range(0, rows, step):
            yield {"row_group": group, "skip": skip, "first": first + skip, "count": min(step, rows - skip)}
        first += rows


def _fault(schema: pa.Schema, column: str, url: str) -> tuple[str, str] | None:
    """Error code and message if the archive's columns do not fit."""
    clash = [name for name in OUTPUT_COLUMNS if name in schema.names]
    if clash and len(clash) < len(OUTPUT_COLUMNS):  # all of them: our own output
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
