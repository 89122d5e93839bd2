"""Calls in a child process: the result, a failure, and the end of the parent."""

from __future__ import annotations

import math
import subprocess
import sys
import time

import psutil
import pytest

from colorize.storage.subprocess_call import SubprocessCall


def test_the_result_of_the_function_is_returned() -> None:
    call = SubprocessCall(math.factorial, 5)
    assert call.result() == 120
    assert call._process.returncode == 0


def test_printed_output_is_not_part_of_the_result() -> None:
    assert SubprocessCall(print, "hello").result() is None


@pytest.mark.parametrize("call", [(int, "five"), (sys.exit, 0)])
def test_a_failed_call_has_no_result(call: tuple[type, object]) -> None:
    with pytest.raises(EOFError):
        SubprocessCall(*call).result()


def test_the_child_ends_with_its_parent() -> None:
    program = "import time; from colorize.storage.subprocess_call import SubprocessCall as C; c = C(time.sleep, 600);"
    words = [sys.executable, "-c", f"{program} print(c._process.pid, flush=True); time.sleep(600)"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as asked:
        assert asked.stdout is not None
        child = psutil.Process(int(asked.stdout.readline()))
        asked.kill()
    started = time.monotonic()
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() - started < 30
        time.sleep(0.1)
