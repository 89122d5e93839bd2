"""`colorize bulk --limit N`: a part of the remaining inputs, and a run that continues."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.photographs import write_photographs
from colorize.bulk.ledger.newest import read_manifest
from colorize.bulk.limit import limited
from colorize.bulk.resume import Work
from colorize.cli import EXIT_FAILURES, run
from colorize.datasets.settings import SourceSettings
from colorize.datasets.sources import open_source
from colorize.storage.root import Storage
from tests.conftest import grey_jpeg, write_tree


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Four files, one of them corrupt, and an archive of eight rows in two groups."""
    folder = tmp_path / "scans"
    write_tree(folder, {f"{i}.jpg": grey_jpeg(i) for i in range(3)} | {"broken.jpg": b"no image"})
    table = pa.table({"image": [grey_jpeg(i) for i in range(8)], "id": range(8)})
    pq.write_table(table, folder / "a.parquet", row_group_size=4)
    return folder


@pytest.mark.parametrize("count", [1, 3, 7, 11])
def test_a_limit_samples_deterministically_and_keeps_order(mixed: Path, count: int) -> None:
    whole = Work(1, open_source(str(mixed), SourceSettings()))
    part = limited(whole, count)

    assert part.remaining.total == count
    assert part.deferred == 12 - count
    assert part.remaining.units == limited(whole, count).remaining.units
    assert part.remaining.parts == {"a.parquet": 8}  # the archive is written when all its rows are complete
    order = whole.remaining.units.select(["name", "skip", "first"]).to_pylist()
    places = [order.index(unit) for unit in part.remaining.units.select(["name", "skip", "first"]).to_pylist()]
    assert places == sorted(places)


def test_a_limit_above_the_remaining_inputs_changes_nothing(mixed: Path) -> None:
    whole = Work(1, open_source(str(mixed), SourceSettings()))

    assert limited(whole, 12) is whole


def test_inputs_are_sampled_across_the_source(tmp_path: Path) -> None:
    names = sorted(write_photographs(tmp_path, 100))
    part = limited(Work(1, open_source(str(tmp_path), SourceSettings())), 20)
    places = [names.index(name) for name in part.remaining.names()]

    assert min(places) < 25
    assert max(places) >= 75


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_a_run_continues_after_a_limited_one(mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bulk", "--input", str(mixed), "--output", str(tmp_path / "out"), "--set", "colorizer.size=64", "--json"]
    assert run([*words, "--limit", "7", "--tolerate-failures", "1"]) == 0
    first = json.loads(capsys.readouterr().out)

    assert (first["state"], first["totals"]["inputs"], first["totals"]["left"]) == ("finished", 7, 5)
    assert read_manifest(Storage(tmp_path / "out")).num_rows == 7
    assert not (tmp_path / "out/a.parquet").exists()

    assert run(words) == EXIT_FAILURES
    then = json.loads(capsys.readouterr().out)
    totals = then["totals"]
    assert (totals["inputs"], totals["ok"], totals["failed"], totals["done_before"], totals["left"]) == (
        12,
        11,
        1,
        7,
        0,
    )
    assert then["errors"] == {"not_an_image": 1}
    assert pq.read_table(tmp_path / "out/a.parquet")["status"].to_pylist() == ["ok"] * 8
    assert not (tmp_path / "out/_colorize/fragments").exists()
