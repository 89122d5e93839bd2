"""Sinks for colored images: a mirrored tree of files, or Parquet archives that keep every input column.

Writes happen at least once, because Ray may retry a task. Every name is a function of the input alone, so a retry
replaces a file with equal bytes.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from colorize.bulk.ledger.manifest import Record, write_part
from colorize.errors import one_line
from colorize.storage.faults import storage_exhausted
from colorize.storage.local_root import Draft
from colorize.storage.root import LEDGER, Storage

FRAGMENTS = f"{LEDGER}/fragments"
BUFFER_BYTES = 64 << 20
FRAGMENT_SCHEMA = pa.schema(
    [("row", pa.int64()), ("colorized", pa.large_binary()), ("status", pa.string()), ("error", pa.string())]
)


@dataclass(frozen=True, slots=True)
class ImageResult:
    """The result of one input: its record, and the encoded image if it is `ok`.

    `fault` is an error that affects all images, such as a full disk: the sink raises it.
    """

    record: Record
    data: bytes | Draft | None = None  # a draft: the sink's draft for a huge image
    part: str = ""  # Parquet only: the archive and the row in it
    row: int = -1
    fault: OSError | None = None


class Sink(Protocol):
    """The interface of a sink for the write stage."""

    def draft(self, name: str) -> Draft | None:
        """A temporary file for the huge image `name`, or None if the sink only takes bytes."""
        ...

    def write(self, results: Iterable[ImageResult]) -> list[Record]:
        """Stores the images one after another; an image that cannot be stored becomes a failed record."""
        ...

    def record(self, records: Sequence[Record]) -> str:
        """Stores manifest rows; returns the name of their part, or "" if the sink stores none."""
        ...


@dataclass(frozen=True)
class FolderSink:
    """Writes each image as a file named by its record's `output`."""

    storage: Storage
    threads: int

    def draft(self, name: str) -> Draft:
        return self.storage.draft(name)

    def write(self, results: Iterable[ImageResult]) -> list[Record]:
        """Writes in threads while the next image is rendered, with at most `BUFFER_BYTES` (or one image) in memory."""
        records: list[Record] = []
        pending: deque[tuple[int, ImageResult, Future[Record]]] = deque()
        pending_bytes = 0
        with ThreadPoolExecutor(self.threads) as pool:
            for item in results:
                if item.fault:
                    raise item.fault
                size = item.data.size if isinstance(item.data, Draft) else len(item.data or b"")
                while pending and pending_bytes + size > BUFFER_BYTES:
                    first_size, first, future = pending.popleft()
                    records.append(self._completed(first, future))
                    pending_bytes -= first_size
                pending.append((size, item, pool.submit(self._write_file, item)))
                pending_bytes += size
            return records + [self._completed(first, future) for _, first, future in pending]

    def record(self, records: Sequence[Record]) -> str:
        return write_part(self.storage, records)

    def _completed(self, item: ImageResult, future: Future[Record]) -> Record:
        try:
            return future.result()
        except MemoryError:  # an image rendered at the same time used up its limit; now none is being rendered
            return self._write_file(item)

    def _write_file(self, item: ImageResult) -> Record:
        if item.data is None:
            return item.record
        try:
            if isinstance(item.data, Draft):
                self.storage.publish(item.data, item.record.output)
            else:
                self.storage.write(item.record.output, item.data)
        except MemoryError:
            raise
        except Exception as error:  # each storage library has its own exceptions
            if storage_exhausted(error):
                raise  # it would affect every other file, too
            return item.record.failed("write_failed", one_line(error))
        return item.record


@dataclass(frozen=True)
class ParquetSink:
    """Writes runs of rows as fragments, which `joining` joins with the input archive."""

    storage: Storage

    def draft(self, name: str) -> None:
        return None

    def write(self, results: Iterable[ImageResult]) -> list[Record]:
        """Writes a fragment for every `BUFFER_BYTES` of images, or for one larger image.

        Raises if a fragment cannot be written, because the archive needs all of them.
        """
        records: list[Record] = []
        buffer: list[ImageResult] = []
        size = 0
        for item in results:
            records.append(replace(item.record, output=item.record.path) if item.data else item.record)
            buffer.append(item)
            size += len(item.data) if isinstance(item.data, bytes) else 0
            if size >= BUFFER_BYTES:
                self._write_fragments(buffer)
                buffer, size = [], 0
        self._write_fragments(buffer)
        return records

    def record(self, records: Sequence[Record]) -> str:
        return write_part(self.storage, records)

    def _write_fragments(self, results: Iterable[ImageResult]) -> None:
        in_archive = [item for item in results if item.row >= 0]
        for run in _runs(sorted(in_archive, key=lambda item: (item.part, item.row))):
            self._write_fragment(run)

    def _write_fragment(self, run: Sequence[ImageResult]) -> None:
        rows = [{"row": i.row, "colorized": i.data, "status": i.record.status, "error": i.record.error} for i in run]
        record = run[0].record
        folder = fragments_of(run[0].part, record.model_sha256, record.settings_sha256, record.identity)
        name = f"{folder}/{run[0].row:012d}-{run[-1].row:012d}.parquet"
        with self.storage.create(name) as file:
            pq.write_table(pa.Table.from_pylist(rows, schema=FRAGMENT_SCHEMA), file, compression="none")


@dataclass(frozen=True)
class MixedSink:
    """Writes rows of archives to fragments, and other images to files."""

    files: FolderSink
    archives: ParquetSink

    def draft(self, name: str) -> Draft:
        return self.files.draft(name)

    def write(self, results: Iterable[ImageResult]) -> list[Record]:
        runs = groupby(results, key=lambda item: bool(item.part))
        return [record for rows, run in runs for record in (self.archives if rows else self.files).write(run)]

    def record(self, records: Sequence[Record]) -> str:
        return self.files.record(records)


class DiscardSink:
    """Stores nothing, for dry runs."""

    def draft(self, name: str) -> None:
        return None

    def write(self, results: Iterable[ImageResult]) -> list[Record]:
        """Returns the records. Raises the fault of an item that has one."""
        records: list[Record] = []
        for item in results:
            if item.fault:
                raise item.fault
            records.append(item.record)
        return records

    def record(self, records: Sequence[Record]) -> str:
        return ""


def fragments_of(part: str, model_sha256: str, settings_sha256: str, identity: str) -> str:
    """The folder of an archive's fragments, separate for each model, settings and version of the archive."""
    digest = hashlib.sha256("\n".join((model_sha256, settings_sha256, identity)).encode()).hexdigest()[:16]
    return f"{FRAGMENTS}/{digest}/{part}"


def _runs(items: Sequence[ImageResult]) -> Iterator[Sequence[ImageResult]]:
    """Splits sorted items into runs of consecutive rows of one archive."""
    cuts = [index + 1 for index, (a, b) in enumerate(pairwise(items)) if a.part != b.part or b.row != a.row + 1]
    for start, stop in pairwise([0, *cuts, len(items)]):
        if start < stop:
            yield items[start:stop]
