"""Small copies of a run's pictures before and after: read from where they lie, files or cells of archives."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from colorize.imaging.formats import Encoded, decode_thumbnail
from colorize.report.page import thumbnail
from colorize.storage.root import Storage

SIDE = 320  # pixels
_READ_THREADS = 8
_AT_ONCE = 1 << 26  # pixels of the pictures that are decoded at once, or of one larger picture
_MAX_PIXELS = 1 << 28  # of a picture that must be decoded whole, which takes 4 to 8 bytes a pixel
_IN_MEMORY = 16 << 20  # bytes of a file that is read at once; a larger one is read piece by piece
_CELLS = 16  # rows of an archive that are held at once


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture of the gallery."""

    row: dict[str, Any]  # of the manifest
    before: str  # data URIs
    after: str
    width: int  # pixels of the thumbnails
    height: int


class Allowance:
    """Pixels that threads may hold at once: who wants more than are left waits; who wants more than all is alone."""

    def __init__(self, pixels: int) -> None:
        self.pixels = self.left = pixels
        self._changed = threading.Condition()

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        """Within the block so many are taken."""
        share = min(pixels, self.pixels)
        with self._changed:
            self._changed.wait_for(lambda: self.left >= share)
            self.left -= share
        try:
            yield
        finally:
            with self._changed:
                self.left += share
                self._changed.notify_all()


@dataclass(frozen=True)
class Places:
    """Where a run's pictures lie."""

    source: Storage
    target: Storage
    image_column: str
    allowance: Allowance = field(default_factory=lambda: Allowance(_AT_ONCE))
    archives: threading.Lock = field(default_factory=threading.Lock)  # a row group is in memory whole: one at a time

    def sample(self, row: dict[str, Any]) -> Sample | None:
        """Both thumbnails; without the source the grey of the copy, which is the source's; None without the copy."""
        try:
            after = self._small(row, self._read(self.target, row["output"], row["bytes_out"], "colorized"))
        except Exception:  # one row's read: storage libraries and decoders raise many classes; it is only not shown
            return None
        try:
            before = self._small(row, self._read(self.source, row["path"], row["bytes_in"], self.image_column))
        except Exception:  # as above: the source may be gone by now
            before = after.convert("L")
        width, height = _fitted(after)
        return Sample(row, thumbnail(before, SIDE), thumbnail(after, SIDE), width, height)

    def samples(self, rows: Sequence[dict[str, Any]]) -> list[Sample]:
        """Those of the rows whose pictures can be read."""
        with ThreadPoolExecutor(_READ_THREADS) as pool:
            return [sample for sample in pool.map(self.sample, rows) if sample is not None]

    def _small(self, row: dict[str, Any], data: Encoded) -> Image.Image:
        with self.allowance.of(row["width"] * row["height"]):
            return decode_thumbnail(data, SIDE * SIDE, max_pixels=_MAX_PIXELS)

    def _read(self, storage: Storage, name: str, size: int, column: str) -> Encoded:
        archive, _, row = name.rpartition("#")
        if archive.lower().endswith(".parquet") and row.isdigit():
            with self.archives:
                return read_cell(storage, archive, column, int(row))
        return storage.load(name, size, _IN_MEMORY)


def read_cell(storage: Storage, archive: str, column: str, row: int) -> bytes:
    """The encoded picture in one row of an archive, without reading more than its row group up to there."""
    with storage.open(archive) as opened:
        file = pq.ParquetFile(opened)
        for group in range(file.metadata.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if row < count:
                return _cell(file, group, column, row)
            row -= count
    raise IndexError(f"{archive} has no row {row}")


def _cell(file: pq.ParquetFile, group: int, column: str, row: int) -> bytes:
    for batch in file.iter_batches(_CELLS, [group], [column]):
        if row < batch.num_rows:
            value = batch.column(0)[row].as_py()
            return bytes(value["bytes"] if isinstance(value, dict) else value)
        row -= batch.num_rows
    raise IndexError(f"row group {group} is shorter than its header says")


def _fitted(picture: Image.Image) -> tuple[int, int]:
    scale = min(1.0, SIDE / max(picture.size))
    return max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
