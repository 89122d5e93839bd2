"""`--fresh`: resets the manifest, but saves its outputs, to delete those that are not written again."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from colorize.bulk.ledger.manifest import BUFFER_BYTES, MANIFEST, MANIFEST_SCHEMA, part_entries, row_tables, rows_about
from colorize.bulk.sinks import FRAGMENTS
from colorize.storage.grouped import Grouped, groups_of
from colorize.storage.parquet import table_batches
from colorize.storage.root import LEDGER, Storage

PREVIOUS = f"{LEDGER}/forgotten.parquet"
COLUMNS = ("path", "output")
_SCHEMA = pa.schema([MANIFEST_SCHEMA.field(name) for name in COLUMNS])
_AGED_SCHEMA = _SCHEMA.append(pa.field("old", pa.bool_()))


def reset_manifest(storage: Storage) -> None:
    """Deletes the manifest and the fragments of archives; saves paths and outputs for `replaced_outputs`."""
    if parts := part_entries(storage):
        with storage.create(PREVIOUS) as file, pq.ParquetWriter(file, _SCHEMA, compression="zstd") as writer:
            for table in _previous(storage):
                writer.write_table(table)
            for _, table in row_tables(storage, parts, COLUMNS):
                writer.write_table(table)
    for tree in (MANIFEST, FRAGMENTS):
        storage.delete_tree(tree)


def replaced_outputs(storage: Storage) -> list[str]:
    """Outputs of inputs that have new rows, if no new row refers to them: they are stale."""
    parts = part_entries(storage)
    groups = groups_of(rows_about(parts))
    with Grouped(_AGED_SCHEMA, "path", groups) as by_path, Grouped(_AGED_SCHEMA, "output", groups) as by_output:
        is_empty = True
        for table in _previous(storage):
            by_path.add(_with_age(table, True))
            is_empty = False
        if is_empty:
            return []
        for _, table in row_tables(storage, parts, COLUMNS):
            by_path.add(_with_age(table, False))
            by_output.add(_with_age(table, False))
        for group in by_path:
            by_output.add(_old_rows(group, "path", known=True))
        stale = (_old_rows(group, "output", known=False)["output"] for group in by_output)
        return [name for names in stale for name in pc.unique(names).to_pylist() if name]


def finish_reset(storage: Storage) -> None:
    """Deletes the saved paths and outputs, after the new manifest is complete."""
    storage.delete(PREVIOUS)


def _previous(storage: Storage) -> Iterator[pa.Table]:
    """The saved rows; none if the manifest was not reset."""
    try:
        with storage.open(PREVIOUS) as file:
            yield from table_batches(file, _SCHEMA, max_bytes=BUFFER_BYTES)
    except FileNotFoundError:
        return


def _with_age(table: pa.Table, old: bool) -> pa.Table:
    return table.append_column("old", pa.repeat(old, table.num_rows))


def _old_rows(group: pa.Table, column: str, known: bool) -> pa.Table:
    """The old rows whose value in a column is also in new rows (`known`), or is not."""
    old, new = group.filter(group["old"]), group.filter(pc.invert(group["old"]))
    found = pc.is_in(old[column], value_set=new[column])
    return old.filter(found if known else pc.invert(found))
