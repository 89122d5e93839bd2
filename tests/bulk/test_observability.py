"""Observability of a running job: logs with the run id, Prometheus metrics, named operators."""

from __future__ import annotations

import json
import time
import urllib.request
from datetime import datetime
from pathlib import Path

import pytest
import ray

from colorize.cli import EXIT_FAILURES, run
from tests.conftest import grey_jpeg, write_tree

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]


def test_json_logs_have_the_run_id_and_prometheus_counts_images(tmp_path: Path) -> None:
    before = exported("ray_colorize_pictures_total", 'status="ok"')
    write_tree(tmp_path / "in", {f"{i}.jpg": grey_jpeg(i) for i in range(20)} | {"bad.jpg": b"no image"})
    words = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--set", "run.log_format=json"]
    assert run(["bulk", *words]) == EXIT_FAILURES

    report = json.loads((tmp_path / "out/_colorize/run.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "out/_colorize/run.log").read_text().splitlines()]
    assert {line["run"] for line in lines} == {report["id"]}
    assert all(datetime.fromisoformat(line["time"]) and line["level"] == "INFO" for line in lines)
    assert any("done 21/21" in line["message"] for line in lines)

    deadline = time.monotonic() + 60  # agents collect every few seconds
    while exported("ray_colorize_pictures_total", 'status="ok"') < before + 20:
        assert time.monotonic() < deadline, "the agent exports no counter of images"
        time.sleep(1)
    assert exported("ray_colorize_pictures_total", 'error="not_an_image"') >= 1
    for stage in ("load", "predict", "write"):
        assert exported("ray_colorize_work_seconds_total", f'stage="{stage}"') > 0


def test_operators_have_descriptive_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    plain = ray.data.Dataset.set_name

    def note(dataset: ray.data.Dataset, name: str) -> None:
        names.extend(operator.name for operator in dataset._logical_plan.dag.post_order_iter())
        plain(dataset, name)

    monkeypatch.setattr(ray.data.Dataset, "set_name", note)
    write_tree(tmp_path / "in", {"a.jpg": grey_jpeg(1)})
    assert run(["bulk", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]) == 0
    assert names[1:] == ["MapBatches(load)", "MapBatches(Predictor)", "MapBatches(write)"]


def exported(name: str, label: str) -> float:
    """The sum of a counter's series with a label, as exported by this node's agent."""
    node = ray.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name}{{") and label in line)
