"""Helpers for tests of sources: writing archives, and reading sources as a worker does."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from colorize.datasets.readers import Raw
from colorize.datasets.settings import SourceSettings
from colorize.datasets.sources import Source

SETTINGS = SourceSettings(rows_per_task=4)


def fetch(source: Source) -> list[Raw]:
    reader = pickle.loads(pickle.dumps(source.reader))  # as a worker gets it
    return [raw for block in source.blocks() for raws in reader.fetch(block) for raw in raws]


def archive(path: Path, images: list[bytes | None], *, struct: bool = False, row_group: int = 100) -> None:
    column: list[object] = [{"bytes": image, "path": "x.jpg"} for image in images] if struct else list(images)
    table = pa.table({"id": list(range(len(images))), "image": column})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group, use_dictionary=False)
