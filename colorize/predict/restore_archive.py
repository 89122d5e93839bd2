"""`colorize restore-grey` for Parquet: the column `colorized` becomes `restored`; the input's columns are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from colorize.datasets.archives import OUTPUT_COLUMNS
from colorize.imaging.sandbox import fault_of
from colorize.predict.outcome import Outcome
from colorize.storage.parquet import Archive
from colorize.storage.parquet_cells import ImageColumn
from colorize.storage.root import Storage

COLORIZED = OUTPUT_COLUMNS[0]
ADDED = (pa.field("restored", pa.large_binary()), pa.field("error", pa.string()))
BUFFER_BYTES = 64 << 20  # maximum bytes of rows in memory
ROWS = 256
NO_COPY = "no colored copy"


def restore_archive(
    source: Storage, name: str, target: Storage, target_name: str, restore: Callable[[bytes], bytes], max_bytes: int
) -> Iterator[Outcome]:
    """Restores each row with a colored copy; yields the outcomes of failed rows, then that of the archive.

    Rows keep their order. If a row has no copy, or it cannot be restored, `restored` is null and `error` says why.

    Args:
        source: storage of the colored archive.
        name: its name there.
        target: storage of the restored archive.
        target_name: its name there.
        restore: restores a copy, or raises.
        max_bytes: maximum size of a copy.

    Raises:
        ParquetError, OSError, pyarrow.ArrowException: not an archive of colored copies, or not readable.
    """
    url, count = source.url(name), 0
    with source.open(name) as file, target.create(target_name) as out:
        archive = Archive(file, canonical=True)
        copies = ImageColumn.of(archive.schema, COLORIZED)
        kept = [each for each in archive.schema.names if each not in (*OUTPUT_COLUMNS, ADDED[0].name)]
        schema = pa.schema([*map(archive.schema.field, kept), *ADDED], archive.schema.metadata)
        with pq.ParquetWriter(out, schema, compression="zstd") as writer:
            for first, batch in archive.all_batches([*kept, *copies.leaves], BUFFER_BYTES, ROWS):
                rows = [_restored(batch, row, copies, restore, max_bytes) for row in range(batch.num_rows)]
                added = [
                    pa.array(values, each.type) for values, each in zip(zip(*rows, strict=True), ADDED, strict=True)
                ]
                columns = [*(batch.column(each) for each in kept), *added]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
                count += sum(scan is not None for scan, _ in rows)
                for row, (_, error) in enumerate(rows, first):
                    if error not in ("", NO_COPY):
                        yield Outcome(False, f"{url}#{row}", error)
    words = f"{count} of {archive.num_rows} rows, in column {ADDED[0].name}"
    yield Outcome(True, url, words, target.url(target_name), count)


def _restored(
    batch: pa.RecordBatch, row: int, copies: ImageColumn, restore: Callable[[bytes], bytes], max_bytes: int
) -> tuple[bytes | None, str]:
    """A row's scan or None, and the error or ""."""
    if not batch.column(copies.name)[row].is_valid:
        return None, NO_COPY
    try:
        return restore(copies.image(batch, row, max_bytes)), ""
    except Exception as fault:  # any fault of one image
        return None, fault_of(fault).message
