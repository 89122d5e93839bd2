"""Finds the valid row of each path in the manifest, the last one of the newest run, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from colorize.bulk.ledger.manifest import MANIFEST_SCHEMA, part_entries, row_tables, rows_about
from colorize.storage.grouped import Grouped, groups_of, mapped_array
from colorize.storage.listing import Entry
from colorize.storage.root import Storage

KEYS = pa.schema([MANIFEST_SCHEMA.field(name) for name in ("path", "run", "finished")])
NUMBERED = KEYS.append(pa.field("number", pa.int64()))

Mask = NDArray[np.bool_]


def newest_rows(storage: Storage, parts: Sequence[Entry]) -> list[Mask]:
    """For each part, a mask of its valid rows, with one row per path.

    Paths are compared in groups through temporary files, so memory does not depend on the number of rows.
    """
    counts = [0] * len(parts)
    with Grouped(NUMBERED, "path", groups_of(rows_about(parts))) as grouped:
        total = 0
        for index, table in row_tables(storage, parts, KEYS.names):
            numbers = pa.array(np.arange(total, total + table.num_rows))
            grouped.add(table.append_column("number", numbers))
            counts[index] += table.num_rows
            total += table.num_rows
        keep = mapped_array(total, np.bool_, True)
        for group in grouped:
            keep[group["number"].to_numpy()[~newest_of(group)]] = False
    return np.split(keep, np.cumsum(counts)[:-1])


def newest_of(rows: pa.Table) -> Mask:
    """A mask of the valid rows of a table (with the columns `KEYS`) that has all rows of its paths."""
    keep = np.ones(rows.num_rows, bool)
    codes = pc.dictionary_encode(rows["path"].combine_chunks())
    if len(codes.dictionary) < rows.num_rows:
        order = np.lexsort((rows["finished"].to_numpy(), rows["run"].to_numpy(), codes.indices.to_numpy()))
        path = codes.indices.to_numpy()[order]
        keep[order[:-1]] = path[1:] != path[:-1]
    return keep


def is_compact(parts: Sequence[Entry]) -> bool:
    """Whether all files are from one compaction, so that each path has one row."""
    return all(f"/manifest-{parts[0].name.split('-')[1]}-" in part.name for part in parts)


def newest_tables(storage: Storage, columns: Sequence[str] = tuple(MANIFEST_SCHEMA.names)) -> Iterator[pa.Table]:
    """The valid rows of an output's manifest, in tables, in no particular order."""
    parts = part_entries(storage)
    tables = row_tables(storage, parts, columns)
    if is_compact(parts):
        yield from (table for _, table in tables)
        return
    for table, mask in masked(tables, newest_rows(storage, parts)):
        yield table.filter(pa.array(mask))


def masked(tables: Iterator[tuple[int, pa.Table]], masks: Sequence[Mask]) -> Iterator[tuple[pa.Table, Mask]]:
    """Each table with its slice of the mask of its part."""
    part, start = -1, 0
    for index, table in tables:
        part, start = index, start if index == part else 0
        yield table, masks[index][start : start + table.num_rows]
        start += table.num_rows


def read_manifest(storage: Storage) -> pa.Table:
    """The whole manifest of an output, with one row per path, in no particular order."""
    return pa.concat_tables([MANIFEST_SCHEMA.empty_table(), *newest_tables(storage)])
