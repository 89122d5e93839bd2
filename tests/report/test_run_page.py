"""The report of a bulk run: bounded for any manifest, and safe for untrusted outputs."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from colorize.bulk.ledger.manifest import MANIFEST, MANIFEST_SCHEMA, RUN_FILE
from colorize.bulk.ledger.newest import read_manifest
from colorize.bulk.manifest_stats import EXTREME, LEAST_CONFIDENT, RANDOM, collect_stats
from colorize.bulk.page import PAGE, bulk_page
from colorize.bulk.progress import Totals
from colorize.bulk.recorded_run import read_run
from colorize.bulk.run_report import Counts, RunReport
from colorize.bulk.settings import BulkJob
from colorize.bulk.worker_stats import WorkerStats
from colorize.cli import EXIT_USAGE, run
from colorize.predict.model_files import ModelFile
from colorize.storage.root import Storage
from tests import poison
from tests.conftest import S3, grey_jpeg

MEGABYTE = 1_000_000


def test_a_folder_without_a_run_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(tmp_path)]) == EXIT_USAGE
    assert "is not the output of a bulk run" in capsys.readouterr().err


def test_a_failed_report_is_a_warning_and_does_not_change_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_without_records(job: BulkJob) -> RunReport:
        return RunReport(job, ModelFile("default", "unet", "", b""), 1, 0.0, Counts(Totals(0), WorkerStats(0)))

    (tmp_path / "in").mkdir()
    monkeypatch.setattr("colorize.bulk.job.run_bulk", run_without_records)
    assert run(["bulk", "--input", str(tmp_path / "in"), "--output", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("0 inputs")
    assert "warning: no report.html" in said.err
    assert f"colorize report {tmp_path}" in said.err


@pytest.mark.slow
def test_a_report_of_an_untrusted_output_shows_nothing_outside_it(tmp_path: Path) -> None:
    """Its run.json has one of our folders as the input, and its manifest our files as copies."""
    target = invented_run(tmp_path, rows=40, output="../secret.png")
    (tmp_path / "in").mkdir()
    for path in (tmp_path / "secret.png", tmp_path / "in/secret.png"):
        Image.new("RGB", (64, 64), "red").save(path)
    page = bulk_page(target, read_run(target)).decode()
    assert "<figure" not in page.replace('<figure class="whole">', "")
    assert "secret.png" not in page

    target = invented_run(tmp_path / "other", rows=40, path="secret.png", folder_in=tmp_path / "in")
    shown = bulk_page(target, read_run(target))
    assert shown.count(b'<figure class="slide">') > 0
    assert shown == bulk_page(target, read_run(target), None)
    assert shown != bulk_page(target, read_run(target), str(tmp_path / "in"))  # the input given on the command line


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"started": "2023-11-14"}, "is invalid"),
        ({"seconds": -1.0}, "seconds"),
        ({"seconds": 1e300}, "seconds"),
        ({"settings": {"a": {"b": {"c": 1}}}}, "settings"),
        ({"input": "x" * 20_000}, "input"),
        ({"model": "x"}, "model"),
        ({"versions": {"x" * 300: "1"}}, "versions"),
        ({"junk": ["x" * 1000] * 20_000}, "limits.max_bytes"),
    ],
)
def test_an_invalid_run_record_is_a_usage_error(
    tmp_path: Path, facts: dict[str, object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = invented_run(tmp_path, rows=3)
    target.write(RUN_FILE, json.dumps(invented_facts(tmp_path) | facts).encode())
    assert run(["report", target.root]) == EXIT_USAGE
    assert said in (text := capsys.readouterr().err)
    assert text.count("\n") == 1


@pytest.mark.slow
def test_an_input_uri_of_an_unknown_scheme_is_shown_but_not_opened(tmp_path: Path) -> None:
    target = invented_run(tmp_path, rows=3)
    for folder in ("/" + "a" * 5000, "/\0", "//host/share"):
        target.write(RUN_FILE, json.dumps(invented_facts(tmp_path) | {"input": folder}).encode())
        assert run(["report", target.root]) == 0


@pytest.mark.parametrize("name", ["0.parquet", "part-x-1.parquet", f"part-{10**30}-1.parquet", "a/part-1-1.parquet"])
def test_a_foreign_file_is_not_a_manifest(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = invented_run(tmp_path, rows=3)
    target.write(f"{MANIFEST}/{name}", target.read(f"{MANIFEST}/manifest-000001-00000.parquet"))
    assert run(["report", target.root]) == EXIT_USAGE
    assert f"{name} is not part of a manifest" in capsys.readouterr().err


def test_thousands_of_distinct_errors_do_not_enlarge_the_report(tmp_path: Path) -> None:
    target = invented_run(tmp_path, rows=50_000, reasons=True)
    started = time.process_time()
    page = bulk_page(target, read_run(target))
    assert time.process_time() - started < 60
    assert len(page) < 3 * MEGABYTE
    assert b"other reasons" in page


@pytest.mark.slow
def test_a_malicious_image_is_omitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = invented_run(tmp_path, rows=3, output="harm.jpg")
    monkeypatch.syspath_prepend(str(poison.install(tmp_path / "site")))
    target.write("harm.jpg", grey_jpeg(1) + b"poison:thumbnail:segfault")
    page = bulk_page(target, read_run(target))
    assert page.count(b'<figure class="slide">') == 0
    assert b"The run" in page


def test_the_report_does_not_need_the_source(tmp_path: Path) -> None:
    target = invented_run(tmp_path, rows=3)
    assert bulk_page(target, read_run(target)).count(b'<figure class="slide">') == 3


def test_galleries_are_full_and_without_duplicates(tmp_path: Path) -> None:
    target = invented_run(tmp_path, rows=400)
    galleries = collect_stats(target, 0.0, 1.0).shown()
    assert [len(rows) for rows in galleries] == [LEAST_CONFIDENT, EXTREME, RANDOM]
    shown = [row["path"] for rows in galleries for row in rows]
    assert len(set(shown)) == len(shown)


def test_the_least_confident_images_come_first(tmp_path: Path) -> None:
    target = invented_run(tmp_path, rows=40)
    rows = [row for row in read_manifest(target).to_pylist() if row["status"] == "ok"]
    least = sorted(rows, key=lambda row: row["confidence"])[:LEAST_CONFIDENT]
    assert [row["path"] for row in collect_stats(target, 0.0, 1.0).shown()[0]] == [row["path"] for row in least]


def test_archives_in_buckets_have_a_report(s3: S3, cluster: None) -> None:
    table = pa.table({"photo": [grey_jpeg(i) for i in range(40)]})
    with Storage("s3://scans/paged").create("a.parquet") as file:
        pq.write_table(table, file, row_group_size=15)
    words = ["--input", "s3://scans/paged", "--output", "s3://colored/paged", "--set", "source.image_column=photo"]
    assert run(["bulk", *words]) == 0
    page = Storage("s3://colored/paged").read(PAGE).decode()
    assert page.count('<figure class="slide">') == 24
    assert "a.parquet#" in page


@pytest.mark.slow
def test_a_million_inputs_do_not_enlarge_the_report(tmp_path: Path) -> None:
    target = invented_run(tmp_path, rows=1_000_000)
    started = time.process_time()
    page = bulk_page(target, read_run(target))
    assert time.process_time() - started < 60
    assert len(page) < 3 * MEGABYTE
    assert b"1,000,000" in page


def invented_run(
    folder: Path,
    rows: int,
    *,
    output: str = "noise.png",
    path: str = "",
    folder_in: Path | None = None,
    reasons: bool = False,
) -> Storage:
    """An output with a compacted manifest of many rows, with incompressible images."""
    target = Storage(folder / "out")
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    (folder / "out").mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).save(folder / "out/noise.png")
    index = np.arange(rows)
    values = {
        "path": pa.array([path or f"{'deep/' * 12}{i}.jpg" for i in range(rows)]),
        "output": pa.array(np.full(rows, output)),
        "status": pa.array(np.where((index % 50 == 49) | reasons, "failed", "ok")),
        "error": pa.array([f"{i}" * 20 if reasons else "truncated" if i % 50 == 49 else "" for i in range(rows)]),
        "message": pa.array(np.where(index % 50 == 49, "x" * 200, "")),
        "format": pa.array(np.full(rows, "PNG")),
        "width": pa.array(np.where(index % 9, 400, 2000)),
        "height": pa.array(np.full(rows, 400)),
        "frames": pa.array(np.where(index % 7, 1, 3)),
        "bytes_in": pa.array(np.full(rows, 1000)),
        "bytes_out": pa.array(np.full(rows, 1000)),
        "confidence": pa.array(np.random.default_rng(1).random(rows)),
        "finished": pa.array(1.7e9 + 100 * index / rows),
        "triage": pa.array(np.where(index % 3, "grey", "color")),
        "luma_exact": pa.array(index % 5 != 0),
    }
    columns = [values.get(kind.name, pa.nulls(rows, kind.type)) for kind in MANIFEST_SCHEMA]
    with target.create(f"{MANIFEST}/manifest-000001-00000.parquet") as file:
        pq.write_table(pa.table(columns, schema=MANIFEST_SCHEMA), file)
    target.write(RUN_FILE, json.dumps(invented_facts(folder, folder_in)).encode())
    return target


def invented_facts(folder: Path, folder_in: Path | None = None) -> dict[str, object]:
    return {
        "state": "finished", "command": ["colorize", "bulk"],
        "input": str(folder_in or folder / "in"), "output": str(folder / "out"),
        "model": {"name": "default", "architecture": "unet", "sha256": "a" * 64}, "settings_sha256": "b" * 64,
        "settings": {"source": {"image_column": "image"}}, "plan": None, "versions": {"colorize": "0"},
        "started": "2023-11-14T22:13:20+00:00", "finished": "2023-11-14T22:15:00+00:00", "seconds": 100.0,
        "seconds_to_first_output": 3.0, "pictures_per_second": 10.0,
    }  # fmt: skip
