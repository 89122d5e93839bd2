"""Assigns images to splits: as the data says, or at random but reproducibly."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import Field, model_validator

from colorize.datasets.readers import Raw
from colorize.settings import Settings

Split = Literal["train", "val", "test"]

_NAMES: dict[str, Split] = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


class SplitSettings(Settings):
    """A random split, reproducible for the same seed and paths."""

    val: float = Field(0.1, gt=0, lt=1, description="fraction for validation")
    test: float = Field(0.0, ge=0, lt=1, description="fraction that training never reads")
    of: Split | None = Field(None, description="split only images that the data assigns to this; None: all images")
    seed: int = 0

    @model_validator(mode="after")
    def _some_are_left(self) -> SplitSettings:
        if self.val + self.test >= 1:
            raise ValueError(f"split.val={self.val} and split.test={self.test} leave no images to train on")
        return self


def split_of(row: Mapping[str, Any], settings: SplitSettings | None = None) -> Split:
    """The split of a row with a `path` and optionally a `split` and an `archive`.

    Without settings, the column `split`, a folder (`train/`, `val/`, `test/`) or the archive's name (`test.parquet`,
    `train-00000-of-00004.parquet`) decides; without those, a tenth is held out by a hash of the path.
    """
    called = called_split(row)
    if settings is None and called is not None:
        return called
    cut = settings or SplitSettings()
    if cut.of is not None and (called or "train") != cut.of:
        return called or "train"
    digest = hashlib.sha256(f"{cut.seed}:{row['path']}".encode()).digest()
    number = int.from_bytes(digest[:8], "big") / 2**64
    if number < cut.test:
        return "test"
    return "val" if number < cut.test + cut.val else "train"


def split_row(raw: Raw, of_several: bool) -> dict[str, Any]:
    """The row of an input for `split_of`, without nulls.

    Args:
        raw: with the columns `path`, `split`, `source` and `label`, if it has them.
        of_several: the source has several archives, whose names may say the split.
    """
    columns = {name: value for name, value in raw.columns.items() if value is not None}
    return {"path": raw.path, "archive": raw.part if of_several else "", **columns}


def called_split(row: Mapping[str, Any]) -> Split | None:
    """The split that a row's column, folder or archive names. Unknown values of the column count as `test`."""
    if row.get("split"):
        return _NAMES.get(str(row["split"]), "test")
    for folder in PurePosixPath(str(row["path"])).parts[:-1]:
        if folder in _NAMES:
            return _NAMES[folder]
    archive = re.match("[a-z]+", PurePosixPath(str(row.get("archive") or "")).name)
    return _NAMES.get(archive.group()) if archive else None
