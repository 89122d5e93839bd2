"""Which images train, which are held out: as an archive says it, or by chance, the same ones each time."""

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
    """Images held out by chance: the same ones each time, for the same seed and paths."""

    val: float = Field(0.1, gt=0, lt=1, description="fraction for validation")
    test: float = Field(0.0, ge=0, lt=1, description="fraction that training never reads")
    of: Split | None = Field(None, description="cut only what is called so already; None cuts all images anew")
    seed: int = 0

    @model_validator(mode="after")
    def _some_are_left(self) -> SplitSettings:
        if self.val + self.test >= 1:
            raise ValueError(f"split.val={self.val} and split.test={self.test} leave no images to train on")
        return self


def split_of(row: Mapping[str, Any], settings: SplitSettings | None = None) -> Split:
    """Which split a row with a `path`, and perhaps a `split` and the `archive` it lies in, belongs to.

    Without settings it is what the column `split`, a folder (`train/`, `val/`, `test/`) or the archive's name
    (`test.parquet`, `train-00000-of-00004.parquet`) says, and where nothing says it a tenth is held out. A fraction
    goes by a hash of the path, which makes the same cut in every run, whatever the order of files.
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
    """What `split_of` goes by, of an input as fetched; an archive's null says nothing.

    Args:
        raw: with those of the columns `path`, `split`, `source` and `label` that it has.
        of_several: there are other archives beside its own, so that the name of each may say a split.
    """
    columns = {name: value for name, value in raw.columns.items() if value is not None}
    return {"path": raw.path, "archive": raw.part if of_several else "", **columns}


def called_split(row: Mapping[str, Any]) -> Split | None:
    """The split that a row's column, folder or archive names; a column that holds another word is none to train on."""
    if row.get("split"):
        return _NAMES.get(str(row["split"]), "test")
    for folder in PurePosixPath(str(row["path"])).parts[:-1]:
        if folder in _NAMES:
            return _NAMES[folder]
    archive = re.match("[a-z]+", PurePosixPath(str(row.get("archive") or "")).name)
    return _NAMES.get(archive.group()) if archive else None
