"""Arrow tables in an unnamed temporary file: written batch by batch, then memory-mapped."""

from __future__ import annotations

import tempfile

import pyarrow as pa


class SpooledTables:
    """A growing table on disk. Close it after reading; mapped data remains valid."""

    def __init__(self, schema: pa.Schema) -> None:
        self._file = tempfile.TemporaryFile(prefix="colorize-tables-")  # noqa: SIM115 (closed by `close`)
        self._writer = pa.ipc.new_file(self._file, schema)

    def write(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Appends rows."""
        self._writer.write(rows)

    def mapped(self) -> pa.Table:
        """The memory-mapped table, in the batches that were written; afterwards nothing can be written."""
        self._writer.close()
        self._file.flush()
        return pa.ipc.open_file(pa.memory_map(f"/proc/self/fd/{self._file.fileno()}")).read_all()

    def close(self) -> None:
        """Frees the disk space when nothing is mapped any more."""
        self._writer.close()
        self._file.close()
