"""Which rows of the manifest count: of those with one path the newest run's last one, in bounded memory."""

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
    """For each part which of its rows count, each path once.

    Paths are compared in groups, by way of the disk: memory is a group's, whatever the number of rows.
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
    """Which of some rows (columns of `KEYS` and others) count, if no others have their paths."""
    keep = np.ones(rows.num_rows, bool)
    codes = pc.dictionary_encode(rows["path"].combine_chunks())
    if len(codes.dictionary) < rows.num_rows:
        order = np.lexsort((rows["finished"].to_numpy(), rows["run"].to_numpy(), codes.indices.to_numpy()))
        path = codes.indices.to_numpy()[order]
        keep[order[:-1]] = path[1:] != path[:-1]
    return keep


def is_compact(parts: Sequence[Entry]) -> bool:
    """Whether these files are what one compaction left: each path stands in one row then."""
    return all(f"/manifest-{parts[0].name.split('-')[1]}-" in part.name for part in parts)


def counting_tables(storage: Storage, columns: Sequence[str] = tuple(MANIFEST_SCHEMA.names)) -> Iterator[pa.Table]:
    """The rows of an output's manifest that count, table by table in no particular order."""
    parts = part_entries(storage)
    tables = row_tables(storage, parts, columns)
    if is_compact(parts):
        yield from (table for _, table in tables)
        return
    for table, mask in masked(tables, newest_rows(storage, parts)):
        yield table.filter(pa.array(mask))


def masked(tables: Iterator[tuple[int, pa.Table]], masks: Sequence[Mask]) -> Iterator[tuple[pa.Table, Mask]]:
    """Each table of some parts with its piece of its part's mask."""
    part, start = -1, 0
    for index, table in tables:
        part, start = index, start if index == part else 0
        yield table, masks[index][start : start + table.num_rows]
        start += table.num_rows


def read_manifest(storage: Storage) -> pa.Table:
    """The whole manifest of an output, each path once, in no particular order."""
    return pa.concat_tables([MANIFEST_SCHEMA.empty_table(), *counting_tables(storage)])
