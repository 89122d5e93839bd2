"""An answer within some seconds, or none: for storage that may hang."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, ask: Callable[[], T]) -> T:
    """Runs `ask` in a daemon thread, so that a connection that hangs cannot hold the process.

    Raises:
        TimeoutError: no answer by then. What `ask` raises is raised as it is.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True, name="storage-probe").start()
    if not wait([answer], seconds).done:
        raise TimeoutError(f"no answer within {seconds} s")
    return answer.result()
