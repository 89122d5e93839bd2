"""Arrow tables in a temporary file without a name: written batch by batch, then mapped. It goes with its process."""

from __future__ import annotations

import tempfile

import pyarrow as pa


class SpooledTables:
    """A table on disk that grows, and then is read where it lies. To be closed; what is mapped stays."""

    def __init__(self, schema: pa.Schema) -> None:
        self._file = tempfile.TemporaryFile(prefix="colorize-tables-")  # noqa: SIM115 (closed by `close`)
        self._writer = pa.ipc.new_file(self._file, schema)

    def write(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Appends some."""
        self._writer.write(rows)

    def mapped(self) -> pa.RecordBatchFileReader:
        """What was written, batch by batch, mapped from the disk; nothing can be written any more."""
        self._writer.close()
        self._file.flush()
        return pa.ipc.open_file(pa.memory_map(f"/proc/self/fd/{self._file.fileno()}"))

    def close(self) -> None:
        """Frees the disk's space once nothing is mapped."""
        self._writer.close()
        self._file.close()
