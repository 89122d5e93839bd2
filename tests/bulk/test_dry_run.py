"""`colorize bulk --dry-run`: counts, a measured sample and an estimate, with nothing written."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from colorize.bulk.dry_run import START_SECONDS, Forecast, Sample, work_seconds
from colorize.cli import run
from colorize.cluster.plan import StagePlan
from tests.conftest import grey_jpeg, write_tree

CPU_PLAN = StagePlan("cpu", 1, 2, 1.0, 0.0, 8, 0.5)
GPU_PLAN = StagePlan("cuda", 1, 4, 1.0, 1.0, 64, 0.5)


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_a_dry_run_counts_the_remaining_inputs_and_colors_a_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], astronaut: Image.Image
) -> None:
    files = {f"{i}.jpg": grey_jpeg(i) for i in range(30)} | {"notes.txt": b"not an image"}
    write_tree(tmp_path / "in", files)
    astronaut.save(tmp_path / "in/color.jpg")
    words = ["bulk", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert run([*words, "--dry-run", "--price-per-hour", "3.6"]) == 0
    counted, sample, estimate, cost = capsys.readouterr().out.strip().splitlines()
    assert counted.startswith("32 inputs, ")
    assert "31 .jpg, 1 .txt" in counted
    assert sample.startswith("sample of 32: 30 colored, 1 ")
    assert "1 already_color" in sample
    assert "1 not_an_image" in sample
    assert "cpu predictors" in estimate
    assert float(cost.split()[1]) == pytest.approx(START_SECONDS / 1000, abs=0.02)
    assert not (tmp_path / "out").exists()

    (tmp_path / "in/notes.txt").unlink()
    assert run(words) == 0
    write_tree(tmp_path / "in", {"new.jpg": grey_jpeg(99)})
    before = {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "out").rglob("*"))}
    capsys.readouterr()
    assert run([*words, "--dry-run"]) == 0
    counted, sample, _ = capsys.readouterr().out.strip().splitlines()
    assert counted.endswith("1 .jpg (31 more were completed by earlier runs)")
    assert sample.startswith("sample of 1: 1 colored;")
    assert {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "out").rglob("*"))} == before


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_archives_are_sampled_without_reading_them_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        pq.write_table(pa.table({"image": [grey_jpeg(i) for i in range(200)]}), tmp_path / f"in/{name}.parquet")
    (tmp_path / "in/c.parquet").write_bytes(b"no archive")
    assert run(["bulk", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--dry-run"]) == 0
    counted, sample, _ = capsys.readouterr().out.strip().splitlines()
    assert counted.endswith("401 rows of 3 archives")
    assert sample.startswith("sample of 45: 44 colored, 1 corrupt_parquet")


def test_the_slowest_stage_determines_the_run_time() -> None:
    """A sample of ten images for a run of a thousand on eight CPUs."""
    predict = Sample(ok=10, predict=10.0, compose=2.0)
    assert work_seconds(predict, 1000, CPU_PLAN, cpus=8) == pytest.approx(1000 / 2)
    assert work_seconds(predict, 1000, GPU_PLAN, cpus=8) == pytest.approx(1000 / 4)
    write = Sample(ok=10, predict=1.0, compose=12.0)
    assert work_seconds(write, 1000, CPU_PLAN, cpus=8) == pytest.approx(1200 / 6)
    wait = Sample(ok=10, predict=1.0, fetch=98.0, compose=2.0)
    assert work_seconds(wait, 1000, CPU_PLAN, cpus=8) == pytest.approx(10000 * 0.5 / 6)


def test_a_forecast_is_readable() -> None:
    sample = Sample(ok=9, others=Counter(truncated=1), fetch=0.1, predict=0.4, compose=0.5, bytes_out=10**7)
    found = Forecast(
        inputs=2_000_000,
        earlier=0,
        bytes_in=10**12,
        kinds=Counter({".jpg": 2_000_000}),
        sample=sample,
        plan=GPU_PLAN,
        seconds=3600.0,
        price_per_hour=2.5,
    )
    assert found.lines() == [
        "2,000,000 inputs, 1,000.000 GB: 2,000,000 .jpg",
        "sample of 10: 9 colored, 1 truncated; per input: fetch 10 ms, predict 40 ms, decode, compose and encode 50 ms",
        "estimate: 1h00m with 1 to 4 cuda predictors (558.7 images/s), 2,000.000 GB written",
        "cost: 2.50 at 2.5 per hour for the whole cluster",
    ]
