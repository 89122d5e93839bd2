"""Parquet files of pictures: which rows a training asks for, and their encoded pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path

import pyarrow.parquet as pq

from colorize.datasets.splits import Split, split_of
from colorize.errors import UsageError
from colorize.settings import nearest
from colorize.training.settings import DataSettings


@dataclass(frozen=True)
class Row:
    """Where a picture is, and what its archive says of it; empty where that has no such column."""

    file: Path
    number: int
    path: str = ""
    label: str = ""
    split: str = ""
    source: str = ""


def choose_rows(path: Path, split: str, settings: DataSettings) -> list[Row]:
    """The rows of a split that the settings ask for, in the archive's order.

    Raises:
        UsageError: no Parquet file there, no such column, or no picture like that.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise UsageError(f"no Parquet file at {path}: give a *.parquet file or a folder of them")
    rows = [row for file in files for row in _list_rows(file, settings)]
    rows = _only(_only(rows, "label", settings.labels), "source", settings.sources)
    rows = _matching(rows, settings.include)
    chosen = [row for row in rows if _split(row, settings, of_several=len(files) > 1) == split]
    if not chosen:
        raise UsageError(
            f"{path} holds no picture with split={split!r}: data.split={{val: 0.1, of: train}} holds some out by chance"
        )
    return chosen[: settings.limit]


def _split(row: Row, settings: DataSettings, of_several: bool) -> Split:
    """A picture without a path is known by its place; a file's name says nothing where it is the only one."""
    name = row.file.name
    said = {"path": row.path or f"{name}#{row.number}", "split": row.split, "archive": name if of_several else ""}
    return split_of(said, settings.split)


def _list_rows(file: Path, settings: DataSettings) -> list[Row]:
    names = pq.read_schema(file).names
    filters = {"label": settings.labels, "source": settings.sources, "path": settings.include}
    for needed in (settings.image_column, *(column for column, wanted in filters.items() if wanted)):
        if needed not in names:
            raise UsageError(f"{file} has no column {needed!r} (it has: {', '.join(names)})")
    columns = [c for c in ("path", "label", "split", "source") if c in names]
    table = pq.read_table(file, columns=columns)
    rows = table.to_pylist() if columns else [{}] * pq.read_metadata(file).num_rows
    known = ({key: str(value) for key, value in row.items() if value is not None} for row in rows)
    return [Row(file, number, **row) for number, row in enumerate(known)]


def _only(rows: list[Row], column: str, wanted: Sequence[str] | None) -> list[Row]:
    """The rows whose column holds one of `wanted`; all of them for None."""
    if wanted is None:
        return rows
    known = {getattr(row, column) for row in rows}
    unknown = sorted(set(wanted) - known)
    if unknown:
        raise UsageError(f"data.{column}s: no picture has {column} {unknown[0]!r}{nearest(unknown[0], sorted(known))}")
    return [row for row in rows if getattr(row, column) in wanted]


def _matching(rows: list[Row], patterns: Sequence[str] | None) -> list[Row]:
    """The rows whose path fits one of the globs; all of them for None."""
    if patterns is None:
        return rows
    fitting = [row for row in rows if any(fnmatchcase(row.path, pattern) for pattern in patterns)]
    if not fitting:
        raise UsageError(f"data.include: no picture matches {patterns}; a path is for example {rows[0].path!r}")
    return fitting


def read_images(rows: Sequence[Row], column: str) -> list[bytes]:
    """The encoded pictures of rows, in their order, empty for a null; only the files that hold one are read."""
    encoded: list[bytes] = []
    for file, members in groupby(rows, lambda row: row.file):
        pictures = pq.read_table(file, columns=[column]).column(0)
        images = pictures.take([row.number for row in members]).to_pylist()
        encoded += [(image.get("bytes") if isinstance(image, dict) else image) or b"" for image in images]
    return encoded
