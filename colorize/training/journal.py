"""`train.log`: lines that the first worker writes beside its results, wherever they are, and the driver follows.

A line is worth no run: a storage that does not answer is warned of, and what it missed goes with the next line.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from colorize.plain_text import one_line, printable
from colorize.storage.root import Storage

log = logging.getLogger(__name__)

NAME = "train.log"


class Journal:
    """Appends lines to a run's log, also where files cannot be appended to; one writes at a time."""

    def __init__(self, storage: Storage) -> None:
        """Goes on after the lines that are there."""
        self.storage = storage
        self._before: str | None = None  # not read yet
        self._ours = ""

    def add(self, line: str) -> None:
        """One line more, with the time before it (UTC)."""
        self._ours += f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {printable(line)}\n"
        try:
            if self._before is None:
                self._before = _read(self.storage)
            self.storage.write(NAME, (self._before + self._ours).encode())
        except Exception as error:  # every storage library has fault classes of its own
            log.warning("%s cannot be written now: %s", self.storage.url(NAME), one_line(error))


@contextmanager
def follow(storage: Storage, show: Callable[[str], None], seconds: float = 2.0) -> Iterator[None]:
    """Within the block `show` is called with each line that is added to the log."""
    text = _latest(storage, "")
    stop = threading.Event()

    def run() -> None:
        nonlocal text
        ended = False
        while not ended:
            ended = stop.wait(seconds)
            shown, text = len(text), _latest(storage, text)
            for line in text[shown:].splitlines():
                show(line)

    thread = threading.Thread(target=run, daemon=True, name="journal")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


def _latest(storage: Storage, before: str) -> str:
    """The whole log, or what it was `before` if the storage does not answer."""
    try:
        return _read(storage)
    except Exception as error:  # as above
        log.warning("%s cannot be read now: %s", storage.url(NAME), one_line(error))
        return before


def _read(storage: Storage) -> str:
    try:
        return storage.read(NAME).decode()
    except FileNotFoundError:
        return ""
