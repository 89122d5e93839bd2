"""Runs a function in a child process, which exits with its parent.

`python -m colorize.storage.subprocess_call` is the child process.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO, Any, Generic, TypeVar

T = TypeVar("T")


class SubprocessCall(Generic[T]):
    """A running call."""

    def __init__(self, function: Callable[..., T], *args: Any) -> None:
        """Starts the process. Function, arguments and result must be picklable.

        Raises:
            OSError: the process cannot be started.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", "colorize.storage.subprocess_call"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        pickle.dump((function, args), self._input)
        self._input.flush()

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin  # open as long as the parent lives

    def result(self) -> T:
        """Waits for the result; can be called once. Raises EOFError if the call failed, without the reason."""
        assert self._process.stdout is not None
        with self._process:
            found: T = pickle.load(self._process.stdout)
        return found


def main() -> None:
    """Reads a call from stdin and writes its result to stdout."""
    function, args = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    output, sys.stdout = sys.stdout.buffer, sys.stderr  # keep printed text out of the result
    try:
        pickle.dump(function(*args), output)
        output.flush()
    finally:
        os._exit(0)  # a normal exit would wait a second for the thread that reads stdin, then abort


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)  # also if the parent closes the pipe after it received the result, before `main` exits


if __name__ == "__main__":
    main()
