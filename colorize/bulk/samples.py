"""Thumbnails of a run's images before and after, read from files or archives."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from colorize.bulk.manifest_stats import clipped
from colorize.imaging.formats import Encoded, decode_thumbnail
from colorize.imaging.sandbox import Sandbox
from colorize.imaging.settings import LimitSettings
from colorize.report.page import thumbnail
from colorize.storage.parquet import Archive
from colorize.storage.parquet_cells import ImageColumn
from colorize.storage.root import Storage, escapes

SIDE = 320  # pixels
_READ_THREADS = 8
_IN_MEMORY = 16 << 20  # bytes: larger files are read in place
_CELLS = 16  # rows of an archive per batch


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of the gallery."""

    row: dict[str, Any]  # of the manifest
    before: str  # data URIs
    after: str
    width: int  # pixels of the thumbnails
    height: int


@dataclass(frozen=True)
class SampleReader:
    """Reads images of a run from its source and its output."""

    source: Storage | None
    target: Storage
    image_column: str
    limits: LimitSettings
    sandbox: Sandbox
    decoding: threading.Lock = field(default_factory=threading.Lock)  # one image at a time
    archives: threading.Lock = field(default_factory=threading.Lock)  # one row group in memory at a time

    def sample(self, row: dict[str, Any]) -> Sample | None:
        """Both thumbnails of a row. Without the source, uses the luminance of the copy; None without the copy."""
        try:
            after = self._small(self._read(self.target, row["output"], "colorized"))
        except Exception:  # storage libraries and decoders raise many classes; the image is just not shown
            return None
        before = after.convert("L")
        if self.source is not None:
            with suppress(Exception):  # as above: the source may no longer exist
                before = self._small(self._read(self.source, row["path"], self.image_column))
        width, height = _fitted(after)
        shown = row | {"path": clipped(row["path"]), "format": clipped(row["format"])}
        return Sample(shown, thumbnail(before, SIDE), thumbnail(after, SIDE), width, height)

    def samples(self, rows: Sequence[dict[str, Any]]) -> list[Sample]:
        """The samples of all rows whose images can be read."""
        with ThreadPoolExecutor(_READ_THREADS) as pool:
            return [sample for sample in pool.map(self.sample, rows) if sample is not None]

    def _small(self, data: Encoded) -> Image.Image:
        with self.decoding:
            return self.sandbox(decode_thumbnail, data, SIDE * SIDE, max_pixels=self.limits.max_pixels)

    def _read(self, storage: Storage, name: str, column: str) -> Encoded:
        if escapes(name):
            raise ValueError("the name leads out of the folder")
        archive, _, row = name.rpartition("#")
        if archive.lower().endswith(".parquet") and row.isdigit():
            with self.archives:
                return read_cell(storage, archive, column, int(row))
        return storage.load(name, -1, _IN_MEMORY, self.limits.max_bytes)


def read_cell(storage: Storage, archive: str, column: str, row: int) -> bytes:
    """The encoded image in one row of an archive. Reads only the row's group, up to the row."""
    with storage.open(archive) as opened:
        file = Archive(opened)
        for group, count in enumerate(file.row_counts):
            if row < count:
                return _cell(file, group, column, row)
            row -= count
    raise IndexError(f"{archive} has no row {row}")


def _cell(file: Archive, group: int, column: str, row: int) -> bytes:
    image = ImageColumn.of(file.schema, column)
    for batch in file.batches(group, image.leaves, _IN_MEMORY, _CELLS):
        if row < batch.num_rows:
            return image.image(batch, row)
        row -= batch.num_rows
    raise IndexError(f"row group {group} has fewer rows than its metadata says")


def _fitted(image: Image.Image) -> tuple[int, int]:
    scale = min(1.0, SIDE / max(image.size))
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))
