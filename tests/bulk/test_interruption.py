"""Signals and kills: a signal ends a run within seconds, and the next run finishes the job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.chaos import Chaos, bulk, contents, differences, disturbed_run
from benchmarks.photographs import write_photographs
from colorize.bulk.ledger.newest import read_manifest
from colorize.cli import EXIT_FAULT
from colorize.errors import EXIT_STOPPED
from colorize.storage.root import Storage

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

PATIENCE = 400  # seconds, on a shared machine
QUICK = ("--set", "colorizer.size=64")
IMAGES = 200
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def own_environment() -> Iterator[None]:
    """Each command starts its own cluster, or gets the address of one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("PYTHONPATH", str(ROOT))
        yield


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of `scans`, and `out`, the output of an undisturbed run."""
    folder = tmp_path_factory.mktemp("calm")
    write_photographs(folder / "scans", IMAGES)
    others = ["--set", "source.rows_per_task=23", "--set", "pool.batch_size=5"]  # other batches, and other actors
    subprocess.run(bulk(str(folder / "scans"), str(folder / "out"), *QUICK, *others), check=True, timeout=PATIENCE)
    return folder


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """`colorize bulk` in its own process, which ends with the test."""
    started = []

    def run(scans: Path, target: Path, *options: str) -> subprocess.Popen[str]:
        command = bulk(str(scans), str(target), "--set", "source.rows_per_task=4", *QUICK, *options)
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


def wait_for_outputs(target: Path, process: subprocess.Popen[str], count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(list(target.glob("*/*.*g"))) < count:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)


def names(calm: Path) -> set[str]:
    """The inputs."""
    return {entry.name for entry in Storage(calm / "scans").entries()}


def test_signals_and_kills_lose_nothing_and_do_not_change_outputs(start: Start, calm: Path, tmp_path: Path) -> None:
    """Stopped by SIGTERM, then by Ctrl-C, then killed, then finished."""
    scans, target, done = calm / "scans", tmp_path / "out", 0
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        process = start(scans, target)
        wait_for_outputs(target, process, done + 20)
        asked = time.monotonic()
        process.send_signal(number)
        _, text = process.communicate(timeout=PATIENCE)
        seconds = time.monotonic() - asked
        before, done = done, read_manifest(Storage(target)).num_rows
        assert done > before
        if number != signal.SIGKILL:
            assert process.returncode == EXIT_STOPPED
            assert "run the same command again to resume" in text
            assert json.loads((target / "_colorize/run.json").read_text())["state"] == "interrupted"
            assert seconds < 30
    process = start(scans, target)
    assert process.wait(PATIENCE) == 0

    totals = json.loads((target / "_colorize/run.json").read_text())["totals"]
    assert (totals["inputs"], totals["ok"]) == (IMAGES, IMAGES)
    assert IMAGES > totals["done_before"] >= done  # workers of the killed driver may have finished their images
    assert differences(Storage(calm / "out"), Storage(target), names(calm)) == []


def test_killing_workers_actors_a_node_and_the_driver_does_not_change_outputs(calm: Path, tmp_path: Path) -> None:
    chaos = Chaos(nodes=2)
    try:
        command = bulk(str(calm / "scans"), str(tmp_path / "out"), "--set", "source.rows_per_task=4", *QUICK)
        disturbed_run(command, chaos, 1, tmp_path / "log", (1.0, 3.0))
    finally:
        chaos.shutdown()

    assert chaos.killed.total() > 1
    assert differences(Storage(calm / "out"), Storage(tmp_path / "out"), names(calm)) == []


def test_a_full_disk_stops_the_run_in_one_line(start: Start, small_disk: Path, tmp_path: Path) -> None:
    write_photographs(tmp_path / "scans", 60)
    process = start(tmp_path / "scans", small_disk)
    _, text = process.communicate(timeout=PATIENCE)

    assert process.returncode == EXIT_FAULT
    assert "no space left on device" in text.splitlines()[-1]
    assert "Traceback" not in text
    assert "streaming_executor" not in text  # Ray Data's own log of exceptions
    assert all(os.path.getsize(small_disk / name) for name in contents(Storage(small_disk)))  # noqa: PTH202
