"""Compaction: merges the small parts of the manifest into few files with one row per input, at the end of a run.

New files get new names and old ones are deleted last, so readers, which take the newest row of each path, always find
every row.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from colorize.bulk.ledger.lost import Lost
from colorize.bulk.ledger.manifest import (
    GROUP_ROWS,
    MANIFEST,
    MANIFEST_SCHEMA,
    PARQUET,
    last_run,
    part_entries,
    part_name,
    part_names,
    record_from,
    records_table,
    row_tables,
    rows_about,
    write_rows,
)
from colorize.bulk.ledger.newest import is_compact, masked, newest_rows
from colorize.storage.grouped import Grouped, groups_of
from colorize.storage.listing import Entry
from colorize.storage.root import Storage

_OUTPUTS = pa.schema([MANIFEST_SCHEMA.field("output"), ("kept", pa.bool_())])


@dataclass
class Compacted:
    """The results of a compaction.

    Attributes:
        states: rows of the current run, by status.
        errors: their codes.
        lost_earlier: former outcomes of rows of earlier runs that are failed now, because their archive was lost.
        orphans: outputs that only superseded rows refer to.
    """

    states: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    lost_earlier: Counter[tuple[str, str]] = field(default_factory=Counter)
    orphans: list[str] = field(default_factory=list)


def compact(
    storage: Storage,
    run: int,
    rows_per_file: int,
    lost_archives: Mapping[str, Lost] | None = None,
    superseded: Sequence[str] = (),
) -> Compacted:
    """Merges all parts into files of `rows_per_file` rows with one row per path; counts the rows of run `run`.

    Rows of `lost_archives` (by name) that could not be written become failed. Rows of `superseded` paths are dropped:
    they refer to a former version of an archive.
    """
    parts, found = part_entries(storage), Compacted()
    if not superseded and not lost_archives and is_compact(parts):
        return found  # there is only one generation of merged files
    rows = _surviving_rows(storage, parts, pa.array(superseded, pa.string()), found)
    counted = (_count(_without_archives(table, run, lost_archives or {}, found), run, found) for table in rows)
    _write_files(storage, _generation(parts, run), counted, rows_per_file)
    storage.delete_all(part.name for part in parts)
    return found


def merge(storage: Storage, run: int, parts: Sequence[str]) -> str:
    """Merges parts of a run into one and deletes them; returns the name of the merged part.

    Can be interrupted at any point and retried: if the merged part exists, only the others have to be deleted.
    """
    name = part_name(run, parts)
    if name not in part_names(storage):
        small = [Entry(part, 0, "") for part in parts]  # written by one task each
        rows = masked(row_tables(storage, small), newest_rows(storage, small))
        write_rows(storage, name, pa.concat_tables([table.filter(pa.array(mask)) for table, mask in rows]))
    storage.delete_all(parts)
    return name


def _generation(parts: Sequence[Entry], run: int) -> int:
    """A number that no merged file has, so that no file is overwritten while it is read."""
    return max(run, 1 + last_run(part.name for part in parts if "/manifest-" in part.name))


def _surviving_rows(
    storage: Storage, parts: Sequence[Entry], superseded: pa.Array, found: Compacted
) -> Iterator[pa.Table]:
    masks = newest_rows(storage, parts)
    if not len(superseded) and all(mask.all() for mask in masks):
        yield from (table for _, table in row_tables(storage, parts))
        return
    with Grouped(_OUTPUTS, "output", groups_of(rows_about(parts))) as outputs:
        for table, mask in masked(row_tables(storage, parts), masks):
            keep = pc.and_not(pa.array(mask), pc.is_in(table["path"], value_set=superseded))
            yield table.filter(keep)
            outputs.add(pa.table([table["output"], keep], schema=_OUTPUTS))
        found.orphans = [name for group in outputs for name in _orphans(group)]


def _orphans(group: pa.Table) -> list[str]:
    """The outputs of a group that only dropped rows refer to."""
    kept = group["output"].filter(group["kept"])
    gone = pc.unique(group["output"].filter(pc.invert(group["kept"])))
    return [name for name in gone.filter(pc.invert(pc.is_in(gone, value_set=kept))).to_pylist() if name]


def _without_archives(table: pa.Table, run: int, lost: Mapping[str, Lost], found: Compacted) -> pa.Table:
    if not lost:
        return table
    records = [record_from(row) for row in table.to_pylist()]
    for index, record in enumerate(records):
        archive = record.path.rpartition("#")[0]
        if archive not in lost:
            continue
        records[index] = lost[archive].applied_to(record)
        if records[index] is not record and record.run != run:
            found.lost_earlier[record.status, record.error] += 1
    return records_table(records)


def _count(table: pa.Table, run: int, found: Compacted) -> pa.Table:
    now = table.select(["status", "error"]).filter(pc.equal(table["run"], run))
    for counter, values in (
        (found.states, now["status"]),
        (found.errors, now["error"].filter(pc.not_equal(now["status"], "ok"))),
    ):
        counter.update({each["values"]: each["counts"] for each in pc.value_counts(values).to_pylist()})
    return table


def _write_files(storage: Storage, generation: int, tables: Iterable[pa.Table], rows_per_file: int) -> None:
    """Writes the rows as merged files of about `rows_per_file` rows, with one row group in memory."""
    groups = math.ceil(rows_per_file / GROUP_ROWS)
    chunks = _chunks(tables, math.ceil(rows_per_file / groups))
    number, chunk = 0, next(chunks, None)
    while chunk is not None:
        with (
            storage.create(f"{MANIFEST}/manifest-{generation:06d}-{number:05d}.parquet") as file,
            pq.ParquetWriter(file, MANIFEST_SCHEMA, **PARQUET) as writer,
        ):
            for _ in range(groups):
                if chunk is not None:
                    writer.write_table(chunk)
                    del chunk  # before the next one is read
                    chunk = next(chunks, None)
        number += 1


def _chunks(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows, in tables of `rows` rows (the last one shorter)."""
    buffer = MANIFEST_SCHEMA.empty_table()
    for table in tables:
        buffer = pa.concat_tables([buffer, table])
        del table
        pa.default_memory_pool().release_unused()  # of the reader
        while buffer.num_rows >= rows:
            yield buffer.slice(0, rows)
            buffer = buffer.slice(rows)
    if buffer.num_rows:
        yield buffer
