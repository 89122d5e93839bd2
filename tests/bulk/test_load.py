"""The load stage: files that change or become unreadable while being read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from colorize.bulk.load import Loader, Stamp, load
from colorize.bulk.settings import BulkSettings
from colorize.datasets.readers import UNIT_SCHEMA, FileReader, Raw
from colorize.datasets.settings import SourceSettings
from colorize.imaging.canvas import Canvases
from colorize.imaging.formats import FileBytes
from colorize.storage.root import Storage
from tests.conftest import grey_jpeg


def loader_of(folder: Path) -> Loader:
    settings = BulkSettings()
    reader = FileReader(Storage(folder), SourceSettings(inline_bytes=1))
    return Loader(reader, settings.limits, settings.triage, Canvases(64, 32), 64 * 64, 1, Stamp("m", "0", "0", 1))


def outcome_of(raw: Raw, loader: Loader, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(FileReader, "fetch", lambda *_: iter([[raw]]))
    (table,) = load(pa.Table.from_pylist([], schema=UNIT_SCHEMA), loader)
    found: dict[str, Any] = table.to_pylist()[0]
    return found


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_a_large_file_that_is_still_being_copied_fails_in_its_row(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    path.write_bytes(grey_jpeg(1))
    raw = Raw(name, FileBytes(path), size=path.stat().st_size)
    os.truncate(path, 100)

    row = outcome_of(raw, loader_of(tmp_path), monkeypatch)
    assert (row["status"], row["error"]) == ("failed", "changed")


def test_a_file_whose_disk_fails_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(grey_jpeg(1))
    raw = Raw("a.jpg", FileBytes(tmp_path / "a.jpg"))
    monkeypatch.setattr(FileBytes, "__getitem__", stale_handle)

    row = outcome_of(raw, loader_of(tmp_path), monkeypatch)
    assert (row["status"], row["error"], row["message"]) == ("failed", "unreadable", "[Errno 116] Stale file handle")


def stale_handle(*_: object) -> bytes:
    raise OSError(116, "Stale file handle")
