"""A cluster that changes while a job runs: what the job makes of new nodes, and of lost ones."""

from __future__ import annotations

import gc
import os
import subprocess
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.cluster_utils import Cluster
from ray.data._internal.actor_autoscaler.autoscaling_actor_pool import AutoscalingActorConfig
from ray.data._internal.execution.interfaces import ExecutionResources

from benchmarks.chaos import bulk
from colorize.bulk import job
from colorize.bulk.ledger.manifest import read_manifest
from colorize.bulk.settings import BulkSettings
from colorize.cluster.elastic import Following, PlanOutdated
from colorize.cluster.plan import StagePlan, plan_stages
from colorize.cluster.settings import PoolSettings
from colorize.storage.root import Storage
from tests import poison
from tests.conftest import grey_jpeg, write_tree

ROOT = Path(__file__).parent.parent
PICTURES = 24  # in each scene
PATIENCE = 240.0  # seconds, for a machine that is busy with other things


class Scene:
    """A cluster whose size and clock the test sets, and an execution with one pool."""

    def __init__(self, cpus: float, gpus: float, pool: PoolSettings | None = None) -> None:
        self.cpus, self.gpus, self.now = cpus, gpus, 0.0
        plan = plan_stages(pool or PoolSettings(), cpus, gpus)
        usage = ExecutionResources(cpu=1, gpu=0, memory=0)
        config = AutoscalingActorConfig(plan.min_actors, plan.max_actors, plan.min_actors, 4, 1, usage)
        self.pool = SimpleNamespace(_config=config)
        self.executor = SimpleNamespace(_topology={self: None})
        settings = pool or PoolSettings()
        self.following = Following(settings, plan.device, 30.0, self.look, lambda: self.now)

    def get_autoscaling_actor_pools(self) -> list[SimpleNamespace]:
        return [self.pool]

    def look(self, pool: PoolSettings) -> StagePlan | None:
        return plan_stages(pool, self.cpus, self.gpus) if self.cpus else None

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1.0
            self.following.on_execution_step(self.executor)


def test_the_pool_grows_and_shrinks_with_the_cluster() -> None:
    scene = Scene(cpus=4, gpus=0)
    assert scene.pool._config.max_size == 2
    for cpus, expected in ((16, 8), (32, 16), (4, 2)):
        scene.cpus = cpus
        scene.wait(3)
        assert scene.pool._config.max_size == expected


def test_gpus_that_stay_change_the_device() -> None:
    scene = Scene(cpus=8, gpus=0)
    scene.gpus = 1
    scene.wait(29)
    with pytest.raises(PlanOutdated, match="cuda"):
        scene.wait(10)


def test_gpus_that_come_back_in_time_change_nothing() -> None:
    scene = Scene(cpus=8, gpus=2)
    for _ in range(3):
        scene.gpus = 0
        scene.wait(20)
        scene.gpus = 2
        scene.wait(20)


def test_a_device_that_was_asked_for_is_kept() -> None:
    scene = Scene(cpus=8, gpus=1, pool=PoolSettings(device="cpu"))
    scene.gpus = 0
    scene.wait(300)


def test_a_cluster_too_small_for_any_plan_is_waited_for() -> None:
    scene = Scene(cpus=8, gpus=1)
    scene.cpus = 0
    scene.wait(300)


def change_of_plan(monkeypatch: pytest.MonkeyPatch, old: Callable[[], None], said: Callable[[str], None]) -> None:
    """A run whose plan is outdated at once, after `old` was done; `said` hears of the steps to the next plan."""

    def stream(*stages: object) -> Iterator[dict[str, Any]]:
        if next(first, False):
            old()
            raise PlanOutdated("cuda")
        yield from ()

    def step(name: str, result: Any) -> Callable[..., Any]:
        def done(*arguments: object) -> Any:
            said(name)
            return result

        return done

    first, left, plan = iter([True]), SimpleNamespace(parts=None, total=0), plan_stages(PoolSettings(), 4, 0)
    monkeypatch.setattr(job, "stream", stream)
    monkeypatch.setattr(job, "plan_for_cluster", step("planned", plan))
    monkeypatch.setattr(job, "not_in_run", step("read", left))
    prepared: Any = SimpleNamespace(settings=BulkSettings(), loader=lambda run: None, writer=lambda: None, target=None)
    report: Any = SimpleNamespace(plan=plan)
    work: Any = SimpleNamespace(left=left, run=1)
    merging: Any = SimpleNamespace(finish=step("joined", None))
    assert not list(job._summaries(prepared, report, work, merging, may_grow=True))


def test_no_part_of_the_manifest_goes_while_a_new_plan_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    change_of_plan(monkeypatch, lambda: None, done.append)

    assert done == ["planned", "joined", "read"]


def test_an_old_plan_lets_go_of_its_tasks_before_the_next_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task whose reader is still there, if only in a cycle, holds its CPUs for ever."""
    readers: list[weakref.ref[Scene]] = []
    alive: dict[str, bool] = {}

    def leave_a_cycle() -> None:
        reader = Scene(cpus=4, gpus=0)  # which is in a cycle with its executor
        readers.append(weakref.ref(reader))

    gc.disable()
    try:
        change_of_plan(monkeypatch, leave_a_cycle, lambda step: alive.update({step: readers[0]() is not None}))
    finally:
        gc.enable()
    assert not alive["planned"]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """One node with CPUs only, whose workers know `poison`: they get the environment of who starts the node."""
    monkeypatch.setenv("PYTHONPATH", f"{poison.install(tmp_path / 'site')}{os.pathsep}{ROOT}")
    node = {"num_cpus": 2, "object_store_memory": 300 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    yield cluster
    cluster.shutdown()


@pytest.mark.cluster
@pytest.mark.timeout(2 * PATIENCE)
def test_a_run_gains_a_gpu_node_loses_it_and_does_every_input(cluster: Cluster, tmp_path: Path) -> None:
    """The node only says that it has a GPU: what its predictors color is marked as `degraded`, since they find none.

    The pictures of each scene wait until it begins, so that no machine is too fast or too slow for it.
    """
    scenes = {name: tmp_path / name for name in ("one", "gpu", "end")}
    for name, cue in scenes.items():
        wait = b"" if name == "one" else b"poison:load:until:" + bytes(cue)
        write_tree(tmp_path / "scans" / name, {f"{i:02d}.jpg": grey_jpeg(i) + wait for i in range(PICTURES)})
    (tmp_path / "list.txt").write_text("\n".join(f"{name}/{i:02d}.jpg" for name in scenes for i in range(PICTURES)))
    settings = ("run.device_seconds=1", "source.rows_per_task=4", "pool.batch_size=2", "colorizer.size=64")
    options = [word for setting in (*settings, "limits.seconds=900") for word in ("--set", setting)]
    options += ["--input-list", str(tmp_path / "list.txt"), "--ray", cluster.address]
    with (tmp_path / "log").open("wb") as log:
        command = bulk(str(tmp_path / "scans"), str(tmp_path / "out"), *options)
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until(process, tmp_path, lambda: recorded(tmp_path) >= PICTURES // 2)
        node = cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=300 << 20)
        wait_until(process, tmp_path, lambda: said(tmp_path, "going on with predictors on cuda"))
        scenes["gpu"].touch()
        wait_until(process, tmp_path, lambda: recorded(tmp_path) >= PICTURES * 3 // 2)
        cluster.remove_node(node, allow_graceful=False)
        wait_until(process, tmp_path, lambda: said(tmp_path, "going on with predictors on cpu"))
        scenes["end"].touch()
        assert process.wait(PATIENCE) == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()

    rows = read_manifest(Storage(tmp_path / "out")).to_pylist()
    assert len({row["path"] for row in rows}) == len(rows) == outputs(tmp_path) == 3 * PICTURES
    assert {row["status"] for row in rows} == {"ok"}
    assert PICTURES // 2 <= sum(bool(row["degraded"]) for row in rows) < 2 * PICTURES
    assert "Traceback" not in (tmp_path / "log").read_text()


def outputs(folder: Path) -> int:
    return len(list((folder / "out").glob("*/*.jpg")))


def recorded(folder: Path) -> int:
    """How many inputs the manifest names: an output without a row is made again after a change of devices."""
    return len(read_manifest(Storage(folder / "out")))


def said(folder: Path, words: str) -> bool:
    return words in (folder / "out/_colorize/run.log").read_text()


def wait_until(process: subprocess.Popen[bytes], folder: Path, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.2)
