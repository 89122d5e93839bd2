"""One run at a time into one output."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from colorize.errors import UsageError
from colorize.storage.root import Storage


@contextmanager
def exclusive(target: Storage) -> Iterator[None]:
    """Within the block no other process of this machine, nor of those that share the disk, gets `target`.

    A local folder itself is locked: no file is left behind, and the system lets go of a process that was killed. A
    bucket has no such lock, and neither has every network file system: there nothing is held, nor refused.

    Raises:
        UsageError: another run writes there now.
    """
    if not target.is_local:
        yield
        return
    Path(target.root).mkdir(parents=True, exist_ok=True)
    folder = os.open(target.root, os.O_RDONLY | os.O_DIRECTORY)  # workers that are started meanwhile do not inherit it
    try:
        _lock(folder, target)
        yield
    finally:
        os.close(folder)


def _lock(folder: int, target: Storage) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            f"another run writes to --output {target.url()}: wait for its end, or choose another output"
        ) from None
    except OSError:
        pass  # a file system that knows no locks
