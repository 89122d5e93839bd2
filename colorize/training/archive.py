"""Parquet files of pictures: which rows a training asks for, and their encoded pictures."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path

from colorize.datasets.splits import Split, split_of
from colorize.errors import UsageError
from colorize.settings import nearest
from colorize.storage.parquet import Archive
from colorize.storage.parquet_cells import ImageColumn, plain_rows
from colorize.storage.parquet_error import ParquetError
from colorize.training.settings import DataSettings

READ_BYTES = 64 << 20  # about what is held of an archive beside the pictures that are kept


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
    with file.open("rb") as opened:
        archive = Archive(opened)
        _require_columns(file, archive.schema.names, settings)
        rows = plain_rows(archive, ("path", "label", "split", "source"))
        known = ({key: str(value) for key, value in row.items() if value is not None} for row in rows)
        return [Row(file, number, **row) for number, row in enumerate(known)]


def _require_columns(file: Path, names: Sequence[str], settings: DataSettings) -> None:
    filters = {"label": settings.labels, "source": settings.sources, "path": settings.include}
    for needed in (settings.image_column, *(column for column, wanted in filters.items() if wanted)):
        if needed not in names:
            raise UsageError(f"{file} has no column {needed!r} (it has: {', '.join(names)})")


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
    """The encoded pictures of rows, in their order, empty for none; only the files that hold one are read."""
    encoded: list[bytes] = []
    for file, members in groupby(rows, lambda row: row.file):
        numbers = [row.number for row in members]
        found = _read_images(file, column, frozenset(numbers))
        encoded += [found[number] for number in numbers]
    return encoded


def _read_images(file: Path, column: str, numbers: frozenset[int]) -> dict[int, bytes]:
    """The encoded pictures of a file by their rows' numbers; empty where a row has none that can be read."""
    found = dict.fromkeys(numbers, b"")
    with file.open("rb") as opened:
        archive = Archive(opened)
        image = ImageColumn.of(archive.schema, column)
        for first, batch in archive.all_batches(image.leaves, READ_BYTES):
            for number in numbers.intersection(range(first, first + batch.num_rows)):
                with suppress(ParquetError):  # a picture that is none is counted as broken
                    found[number] = image.image(batch, number - first)
    return found
