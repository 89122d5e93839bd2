"""How long a process may take for one image."""

from __future__ import annotations

import faulthandler
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


@contextmanager
def watchdog(seconds: float) -> Iterator[None]:
    """Kills the process if the block takes longer, by a signal, which does not need the GIL.

    The process has one such timer: one that was running is suspended for the block.
    """
    _dump_on_alarm()
    suspended, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, suspended)


@cache
def _dump_on_alarm() -> None:
    """Call once per process: SIGALRM then prints the traceback of each thread and ends the process, its default action.

    `faulthandler.dump_traceback_later` does the same by a thread that it starts and joins for each block: 0.1 ms, and
    1 ms on a busy machine.
    """
    faulthandler.register(signal.SIGALRM, file=2, chain=True)
