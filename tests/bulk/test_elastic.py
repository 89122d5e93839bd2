"""A cluster that changes during a job: new nodes get work, and the work of a lost node is repeated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from benchmarks.stand_in import SECONDS
from colorize.bulk.ledger.newest import read_manifest
from colorize.cluster.plan import plan_stages
from colorize.cluster.settings import PoolSettings
from colorize.storage.root import Storage
from tests.conftest import grey_jpeg, write_tree

ROOT = Path(__file__).parents[2]
IMAGES = 96
PATIENCE = 240.0  # seconds, on a busy machine


def test_a_pool_scales_with_the_cluster_up_to_its_limit() -> None:
    assert plan_stages(PoolSettings(), 8, 0, may_grow=True).pool_limit is None
    assert plan_stages(PoolSettings(max=3), 8, 0, may_grow=True).pool_limit == 3
    assert plan_stages(PoolSettings(), 8, 0, may_grow=False).pool_limit == 4


def test_a_pool_has_no_more_predictors_than_there_are_batches() -> None:
    plan = plan_stages(PoolSettings(), 8, 0, may_grow=True)
    assert [plan.limit_for(batches) for batches in (0, 1, 3, 1000)] == [1, 1, 3, 1000]
    assert plan_stages(PoolSettings(min=2, max=3), 8, 0).limit_for(1) == 2
    assert plan_stages(PoolSettings(max=3), 8, 0).limit_for(1000) == 3


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A small node whose workers use the stand-in predictor: they inherit the environment that starts the node."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv(SECONDS, "0.4")
    node = {"num_cpus": 2, "object_store_memory": 300 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    yield cluster
    cluster.shutdown()


@pytest.mark.cluster
@pytest.mark.timeout(2 * PATIENCE)
def test_a_run_uses_an_added_node_and_survives_its_loss(cluster: Cluster, tmp_path: Path) -> None:
    write_tree(tmp_path / "scans", {f"{i:02d}.jpg": grey_jpeg(i) for i in range(IMAGES)})
    settings = {"source": {"rows_per_task": 4}, "pool": {"batch_size": 2}, "colorizer": {"size": 64}}
    request = json.dumps({"folder": str(tmp_path), "settings": settings, "address": cluster.address})
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-m", "benchmarks.scale", "job", request]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=dict(os.environ))
    try:
        wait_until(process, tmp_path, lambda: recorded(tmp_path) >= 4)
        node = cluster.add_node(num_cpus=4, object_store_memory=300 << 20)
        wait_until(process, tmp_path, lambda: recorded(tmp_path) >= IMAGES * 3 // 4)
        cluster.remove_node(node, allow_graceful=False)
        assert process.wait(PATIENCE) == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()

    rows = read_manifest(Storage(tmp_path / "out"))
    assert sorted(rows["path"].to_pylist()) == [f"{i:02d}.jpg" for i in range(IMAGES)]
    assert set(rows["status"].to_pylist()) == {"ok"}
    processes = json.loads((tmp_path / "out/_colorize/run.json").read_text())["processes"]
    assert len([entry for entry in processes if entry["role"] == "predict"]) >= 2


def recorded(folder: Path) -> int:
    """The number of inputs in the manifest."""
    return len(read_manifest(Storage(folder / "out")))


def wait_until(process: subprocess.Popen[bytes], folder: Path, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.2)
