"""The pages in a real browser: interactive, accessible, without requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pytest

from colorize.bulk.ledger.manifest import RUN_FILE
from colorize.bulk.ledger.newest import read_manifest
from colorize.bulk.page import PAGE
from colorize.cli import EXIT_FAILURES, run
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
from tests.conftest import grey_jpeg, write_tree

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = "<img src=x onerror=alert(1)> & \"quotes' #100%.jpg"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cluster: None) -> Path:
    """The output of a real bulk run with malicious names, and a failure."""
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


@pytest.fixture(params=[pytest.param("report", marks=pytest.mark.cluster), "evaluation"])
def page_file(request: pytest.FixtureRequest) -> Path:
    """Each kind of page."""
    if request.param == "evaluation":
        return Path(request.getfixturevalue("evaluated"))
    return Path(request.getfixturevalue("finished")) / PAGE


@pytest.fixture(params=["light", "dark"])
def opened(request: pytest.FixtureRequest, browser: Browser, page_file: Path) -> Iterator[Page]:
    """The page on a narrow screen, in both themes; fails on console messages and requests."""
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
    from axe_playwright_python.sync_playwright import Axe

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


def test_file_names_are_escaped(opened: Page) -> None:
    assert HOSTILE in opened.inner_text("main") or HOSTILE in str(opened.evaluate("document.body.textContent"))
    assert opened.query_selector("img[src='x']") is None


def test_the_slider_works_with_mouse_and_keyboard(browser: Browser, finished: Path) -> None:
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


def test_the_report_matches_the_manifest_and_can_be_regenerated(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = (finished / PAGE).read_text()
    (finished / PAGE).unlink()
    assert run(["report", str(finished), "--input", str(finished.parent / "in")]) == 0
    assert capsys.readouterr().out.strip() == str(finished / PAGE)
    assert (finished / PAGE).read_text() == first
    for fact in (
        "<dd>7</dd>",
        '<dd class="good">6</dd>',
        '<dd class="bad">1</dd>',
        "not_an_image",
        "Lowest confidence",
    ):
        assert fact in first
    weights = json.loads((finished / RUN_FILE).read_text())["model"]["sha256"]
    assert weights in first


def test_the_manifest_records_confidence_and_completion_time(finished: Path) -> None:
    facts = json.loads((finished / RUN_FILE).read_text())
    started = datetime.fromisoformat(facts["started"]).timestamp()
    for row in read_manifest(Storage(finished)).to_pylist():
        assert (0 < row["confidence"] <= 1) == (row["status"] == "ok")
        assert started <= row["finished"] <= started + facts["seconds"] + 1


def test_on_narrow_screens_every_cell_is_labeled(browser: Browser, evaluated: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(evaluated.as_uri())
    for table in page.query_selector_all("table"):
        heads = [head.text_content() for head in table.query_selector_all("thead th")]
        for row in table.query_selector_all("tbody tr"):
            named = "cells => cells.map(cell => getComputedStyle(cell, '::before').content.slice(1, -1))"
            assert row.eval_on_selector_all("td", named) == heads[1:]
    page.close()


def test_chart_units_are_above_the_axes() -> None:
    chart = ElementTree.fromstring(time_chart([0.0, 1.0, 2.0], [3.0, 4.0], "speed", WIDE))
    heights = {text.text: float(text.attrib["y"]) for text in chart.iter("text")}
    unit = heights.pop("images per second")
    assert unit + 8 < min(heights.values())


def invented_evaluation() -> bytes:
    """The evaluation page of two models on forty images, with random metrics."""
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
