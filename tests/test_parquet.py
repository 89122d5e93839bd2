"""The door for Parquet: what a file says never becomes code, and an archive's columns come out as they went in."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from colorize.storage.parquet import Archive
from tests.hostile_parquet import pickles, placements


def parquet(table: pa.Table) -> io.BytesIO:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file


def test_the_hostile_files_of_these_tests_do_act_when_read_without_care(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    pq.read_table(parquet(pa.table({"bad": pickles(marker, 1)}))).to_pylist()
    assert marker.exists()


@pytest.mark.parametrize("place", placements(Path(), 1))
def test_an_extension_type_comes_as_its_storage_at_any_depth(tmp_path: Path, place: str) -> None:
    marker = tmp_path / "marker"
    archive = Archive(parquet(pa.table({"bad": placements(marker, 2)[place]})))
    rows = [row for _, batch in archive.all_batches(["bad"], 1 << 20) for row in batch.to_pylist()]

    assert b"Touch" not in repr(rows).encode() and "touch" in repr(rows)
    assert not marker.exists()
