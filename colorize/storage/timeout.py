"""Calls with a timeout, for storage that may hang."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")


def with_timeout(seconds: float, function: Callable[[], T]) -> T:
    """Calls `function` in a daemon thread, which does not keep the process alive if it hangs; re-raises its exceptions.

    Raises:
        TimeoutError: the call did not return in time.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(function())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True, name="storage-probe").start()
    if not wait([answer], seconds).done:
        raise TimeoutError(f"no answer within {seconds} s")
    return answer.result()
