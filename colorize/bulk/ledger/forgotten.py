"""A manifest that starts anew: what its rows said of outputs is kept until new rows stand in their place."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from colorize.bulk.ledger.manifest import MANIFEST, part_names, read_rows
from colorize.bulk.sinks import FRAGMENTS
from colorize.storage.parquet import read_table
from colorize.storage.root import LEDGER, Storage

FORGOTTEN = f"{LEDGER}/forgotten.parquet"
COLUMNS = ("path", "output")
_SCHEMA = pa.schema([(name, pa.large_string()) for name in COLUMNS])  # of a whole archive: gigabytes
_MOST_BYTES = 32 << 30  # of a hundred million rows


def forget(storage: Storage) -> None:
    """Removes the manifest and the finished rows of archives, but for what `replaced` has to know."""
    rows = [read_rows(storage, part, COLUMNS) for part in part_names(storage)]
    if rows:
        with storage.create(FORGOTTEN) as file:
            kept = pa.concat_tables([*_forgotten(storage), *(table.cast(_SCHEMA) for table in rows)])
            pq.write_table(kept, file, compression="zstd")
    for tree in (MANIFEST, FRAGMENTS):
        storage.delete_tree(tree)


def replaced(storage: Storage) -> list[str]:
    """Outputs that forgotten rows name, and no new one does although their inputs have new rows: they are stale."""
    stale: list[str] = []
    for old in _forgotten(storage):
        known, named = np.zeros(old.num_rows, bool), pc.equal(old["output"], "").to_numpy()
        for part in part_names(storage):
            rows = read_rows(storage, part, COLUMNS).cast(old.schema)
            known |= pc.is_in(old["path"], value_set=rows["path"]).to_numpy()
            named |= pc.is_in(old["output"], value_set=rows["output"]).to_numpy()
        stale += old["output"].filter(pa.array(known & ~named)).to_pylist()
    return list(dict.fromkeys(stale))


def settle(storage: Storage) -> None:
    """Removes what was kept: the new manifest is whole."""
    storage.delete(FORGOTTEN)


def _forgotten(storage: Storage) -> list[pa.Table]:
    """The rows that were kept; none where nothing was forgotten."""
    try:
        with storage.open(FORGOTTEN) as file:
            return [read_table(file, _SCHEMA, most=_MOST_BYTES)]
    except FileNotFoundError:
        return []
