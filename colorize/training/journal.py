"""`train.log`: lines that the first worker writes beside its results, wherever they are, and the driver follows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from colorize.data.storage import Storage

NAME = "train.log"


class Journal:
    """Appends lines to a run's log, also where files cannot be appended to."""

    def __init__(self, storage: Storage) -> None:
        """Goes on after the lines that are there."""
        self.storage = storage
        self.text = _read(storage)

    def add(self, line: str) -> None:
        """One line more, with the time before it (UTC)."""
        self.text += f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}\n"
        self.storage.write(NAME, self.text.encode())


@contextmanager
def follow(storage: Storage, show: Callable[[str], None], seconds: float = 2.0) -> Iterator[None]:
    """Within the block `show` is called with each line that is added to the log."""
    shown = len(_read(storage))
    stop = threading.Event()

    def run() -> None:
        nonlocal shown
        ended = False
        while not ended:
            ended = stop.wait(seconds)
            text = _read(storage)
            for line in text[shown:].splitlines():
                show(line)
            shown = len(text)

    thread = threading.Thread(target=run, daemon=True, name="journal")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


def _read(storage: Storage) -> str:
    try:
        return storage.read(NAME).decode()
    except FileNotFoundError:
        return ""
