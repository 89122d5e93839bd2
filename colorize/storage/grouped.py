"""Hash-partitioned tables, to join tables larger than memory group by group.

Tables with the same number of groups have equal values in the same group. A table with more rows than a group is stored
in a temporary file, from which groups are memory-mapped.
"""

from __future__ import annotations

import math
import tempfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import DTypeLike, NDArray

from colorize.storage.spooled import SpooledTables

GROUP_ROWS = 50_000  # approximate rows per group
RUN_ROWS = 128  # approximate rows of a group that are written together
BUFFER_BYTES = 64 << 20  # maximum size of rows in memory before they are written


def groups_of(rows: int) -> int:
    """The number of groups for about `rows` rows."""
    return max(1, math.ceil(rows / GROUP_ROWS))


class Grouped:
    """A growing table in groups. Use it in a `with` block; its groups can only be read inside."""

    def __init__(self, schema: pa.Schema, by: str, groups: int) -> None:
        """Rows of `schema`, grouped by its text column `by`."""
        self.schema = schema
        self.groups = groups
        self._by = by
        self._pending: list[pa.Table] = []
        self._rows = self._bytes = 0
        self._edges: list[NDArray[np.int64]] = []  # of each batch: where its groups begin, and its end
        self._spooled: SpooledTables | None = None
        self._batches: list[pa.RecordBatch] | None = None  # those in the file, and the rest

    def __enter__(self) -> Grouped:
        return self

    def __exit__(self, *_: object) -> None:
        if self._spooled is not None:
            self._spooled.close()

    def add(self, rows: pa.Table) -> None:
        """Appends rows."""
        most = max(GROUP_ROWS, RUN_ROWS * self.groups)
        for start in range(0, rows.num_rows, most):
            self._pending.append(piece := rows.slice(start, most))
            self._rows += piece.num_rows
            self._bytes += piece.nbytes
            if self._rows >= most or self._bytes >= BUFFER_BYTES:
                self._spill()

    def __iter__(self) -> Iterator[pa.Table]:
        """The groups, in order; afterwards no rows can be added."""
        for number in range(self.groups):
            yield self.group(number)
            pa.default_memory_pool().release_unused()

    def group(self, number: int) -> pa.Table:
        """One group; afterwards no rows can be added."""
        if self._batches is None:
            rest = self._sorted()
            self._batches = [*(self._spooled.mapped().to_batches() if self._spooled else []), rest]
        runs = [
            batch.slice(edges[number], edges[number + 1] - edges[number])
            for batch, edges in zip(self._batches, self._edges, strict=True)
        ]
        return pa.Table.from_batches(runs, self.schema)

    def _spill(self) -> None:
        self._spooled = self._spooled or SpooledTables(self.schema)
        self._spooled.write(self._sorted())
        pa.default_memory_pool().release_unused()  # return freed memory to the system

    def _sorted(self) -> pa.RecordBatch:
        """The pending rows as a batch, sorted by group."""
        rows = pa.concat_tables([self.schema.empty_table(), *self._pending])
        self._pending, self._rows, self._bytes = [], 0, 0
        own = _groups(rows[self._by], self.groups)
        self._edges.append(np.append(0, np.bincount(own, minlength=self.groups).cumsum()))
        batch = pa.RecordBatch.from_arrays([flat(column) for column in rows.columns], schema=self.schema)
        return batch.take(pa.array(np.argsort(own, kind="stable")))


def _groups(names: pa.ChunkedArray, groups: int) -> NDArray[np.uint32]:
    texts = names.cast(pa.large_binary()).to_pylist()
    return np.fromiter(map(zlib.crc32, texts), np.uint32, len(texts)) % np.uint32(groups)


def mapped_array(length: int, dtype: DTypeLike, value: int) -> NDArray[Any]:
    """An array filled with a value in an unnamed, memory-mapped temporary file."""
    if not length:
        return np.empty(0, dtype)
    with tempfile.TemporaryFile(prefix="colorize-array-") as file:
        array: NDArray[Any] = np.memmap(file, dtype, "w+", shape=(length,))
    array[:] = value
    return array


def positions(values: pa.Array, known: pa.ChunkedArray) -> NDArray[np.int64]:
    """The index of each value in `known`, or -1."""
    found = pc.index_in(flat(values), value_set=flat(known), skip_nulls=True)
    return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), np.int64)


def flat(column: Any) -> pa.Array:
    """The column as one contiguous array."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
