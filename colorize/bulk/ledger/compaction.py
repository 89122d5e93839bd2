"""Compaction: many small parts of the manifest become few files with one row per input, at the end of a run.

The new files have names of their own and the old ones go last, so that a reader, who takes the newest row of each
path, finds every row at any moment.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from colorize.bulk.ledger.lost import Lost
from colorize.bulk.ledger.manifest import (
    MANIFEST,
    READ_THREADS,
    last_run,
    newest_rows,
    part_name,
    part_names,
    path_keys,
    read_rows,
    record_from,
    records_table,
    write_rows,
)
from colorize.storage.root import Storage


@dataclass
class Compacted:
    """What a compaction found.

    Attributes:
        states: rows of the present run, by status.
        errors: their codes.
        lost_before: how rows had ended in earlier runs that could not be written with their archive now.
        orphans: outputs that only replaced rows name: nothing in the manifest speaks of them any more.
    """

    states: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    lost_before: Counter[tuple[str, str]] = field(default_factory=Counter)
    orphans: list[str] = field(default_factory=list)


def compact(
    storage: Storage,
    run: int,
    rows_per_file: int,
    lost_archives: Mapping[str, Lost] | None = None,
    superseded: Sequence[str] = (),
) -> Compacted:
    """Merges all parts into files of `rows_per_file` rows, one row a path, and says what the run numbered `run` did.

    Rows of `lost_archives` (by the name of each) that could not be written become failures. Rows of `superseded`
    paths go: they spoke of a whole archive, or of rows of it, that are no inputs any more.
    """
    parts = part_names(storage)
    found, generation = Compacted(), _generation(parts, run)
    if not superseded and not lost_archives and all(f"/manifest-{parts[0].split('-')[1]}-" in name for name in parts):
        return found  # one generation of merged files and nothing new beside it
    rows = _surviving_rows(storage, parts, path_keys(superseded), found)
    counted = (_count(_without_archives(table, run, lost_archives or {}, found), run, found) for table in rows)
    for number, table in enumerate(_chunks(counted, rows_per_file)):
        write_rows(storage, f"{MANIFEST}/manifest-{generation:06d}-{number:05d}.parquet", table)
    storage.delete_all(parts)
    return found


def merge(storage: Storage, run: int, parts: Sequence[str]) -> str:
    """Joins parts of a run into one, whose name it returns; they go when it is there.

    May be cut off at any point and run again: where it wrote the one, what is left of the others only has to go.
    """
    name = part_name(run, parts)
    if name not in part_names(storage):
        masks = newest_rows(storage, parts)
        rows = [table.filter(pa.array(mask)) for table, mask in zip(_read_ahead(storage, parts), masks, strict=True)]
        write_rows(storage, name, pa.concat_tables(rows))
    storage.delete_all(parts)
    return name


def _read_ahead(storage: Storage, parts: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of each part, in order; a few are read at once, and few held."""
    with ThreadPoolExecutor(READ_THREADS) as pool:
        waiting: deque[Future[pa.Table]] = deque()
        for part in parts:
            waiting.append(pool.submit(read_rows, storage, part))
            if len(waiting) > READ_THREADS:
                yield waiting.popleft().result()
        for future in waiting:
            yield future.result()


def _generation(parts: Sequence[str], run: int) -> int:
    """A number that no merged file has: what is read must not be replaced while it is."""
    return max(run, 1 + last_run(name for name in parts if "/manifest-" in name))


def _surviving_rows(
    storage: Storage, parts: Sequence[str], superseded: NDArray[np.uint64], found: Compacted
) -> Iterator[pa.Table]:
    replaced: list[pa.Array] = []
    outputs: list[pa.Array] = []
    for table, keep in zip(_read_ahead(storage, parts), newest_rows(storage, parts), strict=True):
        if len(superseded):
            keep = keep & ~_among(path_keys(table["path"].to_pylist()), superseded)
        yield table.filter(pa.array(keep))
        outputs.append(table["output"].filter(pa.array(keep)))
        if not keep.all():
            replaced.append(table["output"].filter(pa.array(~keep)))
    if replaced:
        chunks = pa.chunked_array([chunk for array in replaced for chunk in array.chunks], pa.string())
        old = pc.unique(chunks.cast(pa.large_string()))  # of a whole archive that was done anew: gigabytes
        for array in outputs:
            old = old.filter(pc.invert(pc.is_in(old, value_set=array.cast(pa.large_string()).combine_chunks())))
        found.orphans = [name for name in old.to_pylist() if name]


def _among(keys: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.bool_]:
    return np.isin(keys[:, 0], wanted[:, 0]) & np.isin(keys[:, 1], wanted[:, 1])


def _without_archives(table: pa.Table, run: int, lost: Mapping[str, Lost], found: Compacted) -> pa.Table:
    if not lost:
        return table
    records = [record_from(row) for row in table.to_pylist()]
    for index, record in enumerate(records):
        archive = record.path.rpartition("#")[0]
        if archive not in lost:
            continue
        records[index] = lost[archive].settled(record)
        if records[index] is not record and record.run != run:
            found.lost_before[record.status, record.error] += 1
    return records_table(records)


def _count(table: pa.Table, run: int, found: Compacted) -> pa.Table:
    now = table.filter(pc.equal(table["run"], run))
    found.states.update(now["status"].to_pylist())
    found.errors.update(now["error"].filter(pc.not_equal(now["status"], "ok")).to_pylist())
    return table


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
