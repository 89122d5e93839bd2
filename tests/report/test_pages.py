"""The pages in a real browser: interactive, accessible, without requests."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page

from colorize.bulk.ledger.manifest import MANIFEST, MANIFEST_SCHEMA, RUN_FILE
from colorize.bulk.ledger.newest import read_manifest
from colorize.bulk.page import PAGE, bulk_page
from colorize.bulk.progress import Totals
from colorize.bulk.recorded_run import read_run
from colorize.bulk.run_report import Counts, RunReport
from colorize.bulk.settings import BulkJob
from colorize.bulk.survey import EXTREME, RANDOM, UNSURE, survey
from colorize.bulk.worker_stats import WorkerStats
from colorize.cli import EXIT_FAILURES, EXIT_USAGE, run
from colorize.evaluate.candidates import Candidate
from colorize.evaluate.gallery import Shown
from colorize.evaluate.outcome import EvaluateJob, Evaluation
from colorize.evaluate.page import evaluation_page
from colorize.evaluate.scores import MEASURED, collect, compare, confidence_quality, summarize
from colorize.evaluate.settings import EvaluateSettings, MeasureSettings
from colorize.metrics.area import BINS
from colorize.predict.model_files import ModelFile
from colorize.report.charts import WIDE, time_chart
from colorize.storage.root import Storage
from tests import poison
from tests.conftest import S3, grey_jpeg, write_tree

HOSTILE = "<img src=x onerror=alert(1)> & \"quotes' #100%.jpg"
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cluster: None) -> Path:
    """The output of a real bulk run with hostile names, and a failure."""
    folder = tmp_path_factory.mktemp("run")
    files = {f"{i}.jpg": grey_jpeg(i, 320, 240) for i in range(4)} | {"strip.jpg": grey_jpeg(9, 800, 96)}
    write_tree(folder / "in", files | {HOSTILE: grey_jpeg(5, 240, 320), f"broken {HOSTILE}": b"no image"})
    assert run(["bulk", "--input", str(folder / "in"), "--output", str(folder / "out")]) == EXIT_FAILURES
    return folder / "out"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation's page, with random metrics."""
    path = tmp_path_factory.mktemp("evaluation") / "evaluation.html"
    path.write_bytes(invented_evaluation())
    return path


@pytest.fixture(params=["report", "evaluation"])
def page_file(request: pytest.FixtureRequest) -> Path:
    """Each kind of page."""
    if request.param == "evaluation":
        return Path(request.getfixturevalue("evaluated"))
    return Path(request.getfixturevalue("finished")) / PAGE


@pytest.fixture(params=["light", "dark"])
def opened(request: pytest.FixtureRequest, browser: Browser, page_file: Path) -> Iterator[Page]:
    """The page on a phone, in both themes; fails on console messages and requests."""
    page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=request.param)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    requests: list[str] = []
    page.on("request", lambda sent: requests.append(sent.url))
    page.goto(page_file.as_uri())
    yield page
    assert not complaints
    assert [url for url in requests if not url.startswith("data:")] == [page_file.as_uri()]
    page.close()


def test_a_page_is_accessible_and_fits_a_phone(opened: Page) -> None:
    for details in opened.query_selector_all("details"):
        details.evaluate("element => element.open = true")
    violations = Axe().run(opened).response["violations"]
    serious = [v for v in violations if v["impact"] in ("serious", "critical")]
    assert not serious, [(v["id"], [node["html"] for node in v["nodes"]][:3]) for v in serious]
    assert opened.evaluate("document.documentElement.scrollWidth") == 390
    assert (
        opened.evaluate(
            "Math.max(0, ...[...document.querySelectorAll('th, td')].map(c => c.getBoundingClientRect().right))"
        )
        <= 390
    )
    images = opened.evaluate("[...document.images].map(i => i.complete && i.naturalWidth)")
    assert images
    assert all(images)


def test_names_are_text_and_never_code(opened: Page) -> None:
    assert HOSTILE in opened.inner_text("main") or HOSTILE in str(opened.evaluate("document.body.textContent"))
    assert opened.query_selector("img[src='x']") is None


def test_the_slider_moves_by_mouse_and_keyboard(browser: Browser, finished: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((finished / PAGE).as_uri())
    slider = page.locator(".slide input").first
    slider.scroll_into_view_if_needed()
    cut = ".slide .frame"

    def position() -> float:
        return float(page.locator(cut).first.evaluate("e => getComputedStyle(e).getPropertyValue('--cut')").rstrip("%"))

    def visible_from() -> str:
        return str(page.locator(".slide .after").first.evaluate("e => getComputedStyle(e).clipPath"))

    assert position() == 50
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert position() == 51
    page.keyboard.press("Home")
    assert position() == 0
    box = slider.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] / 2)
    page.mouse.down()
    assert abs(position() - 20) < 6
    before = visible_from()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    assert abs(position() - 80) < 6
    assert visible_from() != before
    page.close()


def test_links_lead_to_the_files(browser: Browser, finished: Path) -> None:
    page = browser.new_page()
    page.goto((finished / PAGE).as_uri())
    links = page.evaluate("[...document.querySelectorAll('main a')].map(a => a.href)")
    files = [path.as_uri() for path in [*finished.rglob("*"), *(finished.parent / "in").rglob("*")]]
    assert links
    assert {link.replace("'", "%27") for link in links} <= {file.replace("'", "%27") for file in files}
    page.close()


def test_the_report_counts_what_the_manifest_holds_and_is_made_again_on_demand(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = (finished / PAGE).read_text()
    (finished / PAGE).unlink()
    assert run(["report", str(finished), "--input", str(finished.parent / "in")]) == 0
    assert capsys.readouterr().out.strip() == str(finished / PAGE)
    assert (finished / PAGE).read_text() == first
    for fact in ("<dd>7</dd>", '<dd class="good">6</dd>', '<dd class="bad">1</dd>', "not_an_image", "Least confident"):
        assert fact in first
    weights = json.loads((finished / RUN_FILE).read_text())["model"]["sha256"]
    assert weights in first


def test_the_manifest_says_how_sure_the_network_is_and_when_a_row_was_settled(finished: Path) -> None:
    facts = json.loads((finished / RUN_FILE).read_text())
    started = datetime.fromisoformat(facts["started"]).timestamp()
    for row in read_manifest(Storage(finished)).to_pylist():
        assert (0 < row["confidence"] <= 1) == (row["status"] == "ok")
        assert started <= row["finished"] <= started + facts["seconds"] + 1


def test_a_folder_without_a_run_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(tmp_path)]) == EXIT_USAGE
    assert "holds no bulk run" in capsys.readouterr().err


def test_a_page_that_cannot_be_made_is_said_and_leaves_the_exit_status_of_the_run(
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


def test_an_output_that_a_stranger_made_shows_nothing_from_outside_of_it(tmp_path: Path) -> None:
    """Its run.json names a folder of ours as the input, its manifest files of ours as copies."""
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
    assert shown != bulk_page(target, read_run(target), str(tmp_path / "in"))  # who asks says where the scans are


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"started": "2023-11-14"}, "no record of a run"),
        ({"seconds": -1.0}, "seconds"),
        ({"seconds": 1e300}, "seconds"),
        ({"settings": {"a": {"b": {"c": 1}}}}, "settings"),
        ({"input": "x" * 20_000}, "input"),
        ({"model": "x"}, "model"),
        ({"versions": {"x" * 300: "1"}}, "versions"),
        ({"junk": ["x" * 1000] * 20_000}, "limits.max_bytes"),
    ],
)
def test_a_record_of_another_form_is_refused_in_one_line(
    tmp_path: Path, facts: dict[str, object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = invented_run(tmp_path, rows=3)
    target.write(RUN_FILE, json.dumps(invented_facts(tmp_path) | facts).encode())
    assert run(["report", target.root]) == EXIT_USAGE
    assert said in (text := capsys.readouterr().err)
    assert text.count("\n") == 1


def test_an_input_that_no_system_has_is_shown_and_not_looked_for(tmp_path: Path) -> None:
    target = invented_run(tmp_path, rows=3)
    for folder in ("/" + "a" * 5000, "/\0", "//host/share"):
        target.write(RUN_FILE, json.dumps(invented_facts(tmp_path) | {"input": folder}).encode())
        assert run(["report", target.root]) == 0


@pytest.mark.parametrize("name", ["0.parquet", "part-x-1.parquet", f"part-{10**30}-1.parquet", "a/part-1-1.parquet"])
def test_a_file_that_no_run_has_left_is_no_manifest(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = invented_run(tmp_path, rows=3)
    target.write(f"{MANIFEST}/{name}", target.read(f"{MANIFEST}/manifest-000001-00000.parquet"))
    assert run(["report", target.root]) == EXIT_USAGE
    assert f"{name} is no part of a manifest" in capsys.readouterr().err


def test_thousands_of_reasons_do_not_enlarge_the_page(tmp_path: Path) -> None:
    target = invented_run(tmp_path, rows=50_000, reasons=True)
    started = time.process_time()
    page = bulk_page(target, read_run(target))
    assert time.process_time() - started < 60
    assert len(page) < 3 * MEGABYTE
    assert b"other reasons" in page


def test_a_hostile_image_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = invented_run(tmp_path, rows=3, output="harm.jpg")
    monkeypatch.syspath_prepend(str(poison.install(tmp_path / "site")))
    target.write("harm.jpg", grey_jpeg(1) + b"poison:thumbnail:segfault")
    page = bulk_page(target, read_run(target))
    assert page.count(b'<figure class="slide">') == 0
    assert b"The run" in page


def test_the_report_needs_no_source_any_more(tmp_path: Path) -> None:
    target = invented_run(tmp_path, rows=3)
    assert bulk_page(target, read_run(target)).count(b'<figure class="slide">') == 3


def test_each_image_is_shown_once_and_the_galleries_are_full(tmp_path: Path) -> None:
    target = invented_run(tmp_path, rows=400)
    galleries = survey(target, 0.0, 1.0).shown()
    assert [len(rows) for rows in galleries] == [UNSURE, EXTREME, RANDOM]
    shown = [row["path"] for rows in galleries for row in rows]
    assert len(set(shown)) == len(shown)


def test_the_least_confident_are_shown_before_all_else(tmp_path: Path) -> None:
    target = invented_run(tmp_path, rows=40)
    rows = [row for row in read_manifest(target).to_pylist() if row["status"] == "ok"]
    least = sorted(rows, key=lambda row: row["confidence"])[:UNSURE]
    assert [row["path"] for row in survey(target, 0.0, 1.0).shown()[0]] == [row["path"] for row in least]


def test_on_a_phone_every_number_names_its_column(browser: Browser, evaluated: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(evaluated.as_uri())
    for table in page.query_selector_all("table"):
        heads = [head.text_content() for head in table.query_selector_all("thead th")]
        for row in table.query_selector_all("tbody tr"):
            named = "cells => cells.map(cell => getComputedStyle(cell, '::before').content.slice(1, -1))"
            assert row.eval_on_selector_all("td", named) == heads[1:]
    page.close()


def test_the_unit_of_a_chart_stands_above_its_axes() -> None:
    chart = ElementTree.fromstring(time_chart([0.0, 1.0, 2.0], [3.0, 4.0], "speed", WIDE))
    heights = {text.text: float(text.attrib["y"]) for text in chart.iter("text")}
    unit = heights.pop("images per second")
    assert unit + 8 < min(heights.values())


def test_archives_in_buckets_have_a_report_too(s3: S3, cluster: None) -> None:
    table = pa.table({"photo": [grey_jpeg(i) for i in range(40)]})
    with Storage("s3://scans/paged").create("a.parquet") as file:
        pq.write_table(table, file, row_group_size=15)
    words = ["--input", "s3://scans/paged", "--output", "s3://colored/paged", "--set", "source.image_column=photo"]
    assert run(["bulk", *words]) == 0
    page = Storage("s3://colored/paged").read(PAGE).decode()
    assert page.count('<figure class="slide">') == 24
    assert "a.parquet#" in page


@pytest.mark.slow
def test_a_million_inputs_do_not_enlarge_the_page(tmp_path: Path) -> None:
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
    """An output with a compacted manifest of many rows, whose images are as hard to compress as any."""
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


def invented_evaluation() -> bytes:
    """The page of an evaluation of two models on forty images, with random figures."""
    random = np.random.default_rng(0)

    def vector(length: int) -> bytes:
        return random.random(length).astype(np.float32).tobytes()

    rows = [
        {
            "path": f"{i} {HOSTILE}", "title": f"{i} {HOSTILE}", "source": "", "width": 9, "height": 9, "error": "",
            "message": "", "true_colorfulness": 5.0, "true_colorfulness_absolute": 5.0,
            "true_pixels": np.ones(BINS, np.float32).tobytes(), "true_features": vector(8),
            "true_fid_features": vector(8),
            "models": [
                {name: random.random() for name in MEASURED}
                | {"scores": vector(BINS), "features": vector(8), "fid_features": vector(8)}
                for _ in range(2)
            ],
        }
        for i in range(40)
    ]  # fmt: skip
    labels = ("default", "<b>mine</b>")
    scores = collect(rows, labels)
    measure = MeasureSettings(resamples=100)
    done = Evaluation(
        job=EvaluateJob(labels, "photos", "out", settings=EvaluateSettings(measure=measure)),
        candidates=[Candidate(label, ModelFile(label, "unet", "c" * 64, b"")) for label in labels],
        scores=scores,
        summary=summarize(scores, measure),
        comparisons=compare(scores, measure),
        confidence=confidence_quality(scores, measure),
        left_out="",
        supplied={"fid": {"path": f"{HOSTILE}.pth", "sha256": "d" * 64}},
        seconds=5.0,
    )
    image = random.integers(0, 256, (64, 64, 3), np.uint8)
    shown = {p["path"]: Shown(image, dict.fromkeys(labels, image)) for p in scores.images}
    return evaluation_page(done, shown)
