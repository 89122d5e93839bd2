"""`colorize bulk --dry-run`: counts, a measured sample, an estimate; and nothing is written."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from colorize.bulk.dry_run import START_SECONDS, Forecast, Sample, work_seconds
from colorize.cli import run
from colorize.cluster.plan import StagePlan
from tests.conftest import grey_jpeg, write_tree

CPU_PLAN = StagePlan("cpu", 1, 2, 1.0, 0.0, 8, 0.5)
GPU_PLAN = StagePlan("cuda", 1, 4, 1.0, 1.0, 64, 0.5)


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_a_folder_is_counted_and_a_sample_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {f"{i}.jpg": grey_jpeg(i) for i in range(30)} | {"notes.txt": b"not a picture"}
    write_tree(tmp_path / "in", files)
    words = ["bulk", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert run([*words, "--dry-run", "--price-per-hour", "3.6"]) == 0
    counted, sample, estimate, cost = capsys.readouterr().out.strip().splitlines()
    assert counted.startswith("31 inputs, ")
    assert "30 .jpg, 1 .txt" in counted
    assert sample.startswith("sample of 31: 30 colored, 1 not_an_image; work for each: fetch ")
    assert "cpu predictors" in estimate
    assert float(cost.split()[1]) == pytest.approx(START_SECONDS / 1000, abs=0.02)
    assert not (tmp_path / "out").exists()


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
    assert sample.startswith("sample of 33: 32 colored, 1 corrupt_parquet")


def test_the_slowest_line_decides_how_long_a_run_takes() -> None:
    """A sample of ten pictures, a run of a thousand, eight CPUs."""
    predict = Sample(colored=10, predict=10.0, load=1.0, write=1.0)
    assert work_seconds(predict, 1000, CPU_PLAN, cpus=8) == pytest.approx(1000 / 2)
    assert work_seconds(predict, 1000, GPU_PLAN, cpus=8) == pytest.approx(1000 / 4)
    write = Sample(colored=10, predict=1.0, load=2.0, write=10.0)
    assert work_seconds(write, 1000, CPU_PLAN, cpus=8) == pytest.approx(1200 / 6)
    wait = Sample(colored=10, predict=1.0, fetch=98.0, load=1.0, write=1.0)
    assert work_seconds(wait, 1000, CPU_PLAN, cpus=8) == pytest.approx(10000 * 0.5 / 6)


def test_a_forecast_reads_as_a_person_would_say_it() -> None:
    sample = Sample(
        colored=9, failed=Counter(truncated=1), fetch=0.1, load=0.2, predict=0.4, write=0.3, bytes_out=10**7
    )
    found = Forecast(2_000_000, 10**12, Counter({".jpg": 2_000_000}), sample, GPU_PLAN, 3600.0, 2.5)
    assert found.lines() == [
        "2,000,000 inputs, 1,000.000 GB: 2,000,000 .jpg",
        "sample of 10: 9 colored, 1 truncated; work for each: fetch 10 ms, load 20 ms, predict 40 ms, write 30 ms",
        "estimate: 1h00m with 1 to 4 cuda predictors (558.7 pictures/s), 2,000.000 GB written",
        "cost: 2.50 at 2.5 an hour for the whole cluster",
    ]
