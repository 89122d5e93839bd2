"""Images that crash or hang their process: only their rows fail."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorize.bulk.ledger.newest import read_manifest
from colorize.cli import EXIT_FAILURES
from colorize.imaging.formats import ImageDecodeError
from colorize.imaging.sandbox import Fault, Guarded, Sandbox
from colorize.imaging.settings import LimitSettings
from colorize.storage.root import Storage
from tests import poison
from tests.conftest import grey_jpeg, write_tree

ROOT = Path(__file__).parents[2]
LIMITS = LimitSettings(seconds=60, memory_mb=300)


def on_retry(function: object, seconds: float = LIMITS.seconds) -> Guarded[object, object]:
    """As from the second attempt of a task on."""
    return Guarded(function, LIMITS.model_copy(update={"seconds": seconds}), isolated=True)  # type: ignore[arg-type]


def work(item: str) -> str:
    """Stands in for decoding an image."""
    if item == "segfault":
        os.kill(os.getpid(), 11)
    if item == "exit":
        os._exit(7)
    if item == "hang":
        while True:
            pass
    if item == "hog":
        return str(len(np.ones(2**30, np.uint8)))
    if item == "nested":
        return work(item)
    return item.upper()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("item", "code", "word"),
    [
        ("segfault", "crashed", "SIGSEGV"),
        ("exit", "crashed", "exit status 7"),
        ("hang", "too_slow", "limits.seconds"),
        ("hog", "out_of_memory", "limits.memory_mb"),
        ("nested", "unexpected", "RecursionError"),
    ],
)
def test_only_the_item_that_kills_its_process_fails(item: str, code: str, word: str) -> None:
    with on_retry(work, 5 if item == "hang" else LIMITS.seconds) as guarded:
        before, fault, after = guarded("a"), guarded(item), guarded("b")

    assert (before, after) == ("A", "B")
    assert isinstance(fault, Fault)
    assert fault.code == code
    assert word in fault.message


def test_any_exception_of_an_item_fails_only_that_item() -> None:
    with Guarded(work, LIMITS, isolated=False) as guarded:
        fault, after = guarded("nested"), guarded("b")
    assert isinstance(fault, Fault)
    assert (fault.code, after) == ("unexpected", "B")


@pytest.mark.slow
def test_a_sandbox_raises_the_error_and_remains_usable() -> None:
    with Sandbox(LIMITS) as run:
        with pytest.raises(ImageDecodeError, match="SIGSEGV") as caught:
            run(work, "segfault")
        assert caught.value.code == "crashed"
        assert run(work, item="b") == "B"


def test_a_first_attempt_works_in_process() -> None:
    guarded: Guarded[str, object] = Guarded(
        lambda item: (item, os.getpid()), LIMITS, isolated=False
    )  # a lambda cannot be pickled
    assert guarded("x") == ("x", os.getpid())


def test_the_memory_limit_of_a_first_attempt_is_lifted_after_the_item() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with Guarded(work, LIMITS, isolated=False) as guarded:
        fault, after = guarded("hog"), guarded("b")
    assert isinstance(fault, Fault)
    assert (fault.code, after) == ("out_of_memory", "B")
    assert resource.getrlimit(resource.RLIMIT_AS) == before


@pytest.mark.slow
def test_a_heavy_item_runs_in_a_child_process() -> None:
    with Guarded(work, LIMITS, isolated=False, is_heavy=lambda item: item == "hog") as guarded:
        assert guarded("a") == "A"
        assert isinstance(guarded("hog"), Fault)


@pytest.mark.slow
def test_the_watchdog_kills_a_stuck_process() -> None:
    code = (
        "from tests.bulk.test_faults import work; from colorize.imaging.settings import LimitSettings; "
        "from colorize.imaging.sandbox import Guarded\n"
        "with Guarded(work, LimitSettings(seconds=0.5), isolated=False) as guarded: guarded('hang')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60, check=False)

    assert done.returncode == -signal.SIGALRM
    assert b"in work" in done.stderr  # where it was


def test_a_timer_of_the_process_is_suspended_while_an_item_is_watched() -> None:
    before = signal.setitimer(signal.ITIMER_REAL, 100)
    try:
        with Guarded(work, LimitSettings(seconds=50), isolated=False) as guarded:
            guarded("a")
        remaining, _ = signal.getitimer(signal.ITIMER_REAL)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)

    assert 90 < remaining <= 100


@pytest.mark.cluster
def test_poison_images_fail_and_the_run_continues(tmp_path: Path) -> None:
    black = io.BytesIO()
    Image.new("L", (64, 64)).save(black, "PNG")
    huge = io.BytesIO()
    Image.fromarray(np.zeros((6000, 6000, 3), np.uint8)).save(huge, "BMP")
    files = {f"{i:02d}.jpg": grey_jpeg(i) for i in range(40)} | {
        "crash at load.jpg": grey_jpeg(50) + b"poison:load:segfault",
        "crash at write.jpg": grey_jpeg(51) + b"poison:write:segfault",
        "hang at load.jpg": grey_jpeg(52) + b"poison:load:hang",
        "hang at write.jpg": grey_jpeg(53) + b"poison:write:hang",
        "crash the network.png": black.getvalue(),
        "huge.bmp": huge.getvalue(),
    }
    write_tree(tmp_path / "in", files)
    command = [
        sys.executable, "-m", "colorize", "bulk", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"),
        *("--set", "limits.seconds=6", "--set", "limits.memory_mb=120", "--set", "colorizer.size=64"),
    ]  # fmt: skip
    site = poison.install(tmp_path / "site")
    environment = os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)

    assert done.returncode == EXIT_FAILURES, done.stdout + done.stderr
    rows = {row["path"]: row["error"] for row in read_manifest(Storage(tmp_path / "out")).to_pylist()}
    assert {path: error for path, error in rows.items() if error} == {
        "crash at load.jpg": "crashed",
        "crash at write.jpg": "crashed",
        "hang at load.jpg": "too_slow",
        "hang at write.jpg": "too_slow",
        "crash the network.png": "crashed",
        "huge.bmp": "out_of_memory",
    }
    assert len(rows) == 46
