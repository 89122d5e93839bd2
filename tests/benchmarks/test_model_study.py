"""The data of the model benchmarks: the same images each time, and one budget per study."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from benchmarks.measuring import Half, held_out
from benchmarks.model_study import require_same_budget
from tests.images import labeled_archive


def test_an_archive_without_paths_is_halved_as_well(tmp_path: Path) -> None:
    file = labeled_archive(tmp_path)
    table = pq.read_table(file).drop_columns(["path"])
    pq.write_table(table.append_column("split", pa.array(["val"] * table.num_rows)), file)
    halves: tuple[Half, Half] = ("choice", "report")
    places = [[image.path for image in held_out(file, half, 100, 16)] for half in halves]
    assert all(len(half) > 10 for half in places)
    assert len(set(places[0] + places[1])) == table.num_rows
    assert {image.path for image in held_out(file, "choice", 5, 16)} < set(places[0])
    assert len(held_out(file, "choice", 5, 16)) == 5


def test_a_resumed_study_keeps_its_budget(tmp_path: Path) -> None:
    begun = {"samples": 64, "pictures": 8}
    require_same_budget(tmp_path / "study", begun)
    require_same_budget(tmp_path / "study", begun)
    with pytest.raises(typer.BadParameter, match="begun with --samples 64: say so again"):
        require_same_budget(tmp_path / "study", begun | {"samples": 128})
