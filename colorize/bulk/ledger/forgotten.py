"""A manifest that starts over: its outputs stay known until new rows replace the old ones."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from colorize.bulk.ledger.manifest import HELD_BYTES, MANIFEST, MANIFEST_SCHEMA, part_entries, row_tables, rows_about
from colorize.bulk.sinks import FRAGMENTS
from colorize.storage.grouped import Grouped, groups_of
from colorize.storage.parquet import table_batches
from colorize.storage.root import LEDGER, Storage

FORGOTTEN = f"{LEDGER}/forgotten.parquet"
COLUMNS = ("path", "output")
_SCHEMA = pa.schema([MANIFEST_SCHEMA.field(name) for name in COLUMNS])
_SIDED = _SCHEMA.append(pa.field("old", pa.bool_()))


def forget(storage: Storage) -> None:
    """Removes the manifest and the finished rows of archives, but for what `replaced` has to know."""
    if parts := part_entries(storage):
        with storage.create(FORGOTTEN) as file, pq.ParquetWriter(file, _SCHEMA, compression="zstd") as writer:
            for table in _forgotten(storage):
                writer.write_table(table)
            for _, table in row_tables(storage, parts, COLUMNS):
                writer.write_table(table)
    for tree in (MANIFEST, FRAGMENTS):
        storage.delete_tree(tree)


def replaced(storage: Storage) -> list[str]:
    """Outputs that forgotten rows name, and no new one does although their inputs have new rows: they are stale."""
    parts = part_entries(storage)
    groups = groups_of(rows_about(parts))
    with Grouped(_SIDED, "path", groups) as by_path, Grouped(_SIDED, "output", groups) as by_output:
        is_nothing = True
        for table in _forgotten(storage):
            by_path.add(_sided(table, True))
            is_nothing = False
        if is_nothing:
            return []
        for _, table in row_tables(storage, parts, COLUMNS):
            by_path.add(_sided(table, False))
            by_output.add(_sided(table, False))
        for group in by_path:
            by_output.add(_old_but_for(group, "path", known=True))
        stale = (_old_but_for(group, "output", known=False)["output"] for group in by_output)
        return [name for names in stale for name in pc.unique(names).to_pylist() if name]


def settle(storage: Storage) -> None:
    """Removes what was kept: the new manifest is whole."""
    storage.delete(FORGOTTEN)


def _forgotten(storage: Storage) -> Iterator[pa.Table]:
    """The rows that were kept; none where nothing was forgotten."""
    try:
        with storage.open(FORGOTTEN) as file:
            yield from table_batches(file, _SCHEMA, held=HELD_BYTES)
    except FileNotFoundError:
        return


def _sided(table: pa.Table, old: bool) -> pa.Table:
    return table.append_column("old", pa.repeat(old, table.num_rows))


def _old_but_for(group: pa.Table, column: str, known: bool) -> pa.Table:
    """The old rows whose value in a column is also among the new ones', or is not."""
    old, new = group.filter(group["old"]), group.filter(pc.invert(group["old"]))
    found = pc.is_in(old[column], value_set=new[column])
    return old.filter(found if known else pc.invert(found))
