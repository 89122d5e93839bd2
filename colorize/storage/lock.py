"""One run at a time into one output."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from colorize.errors import UsageError
from colorize.storage.root import LEDGER, Storage

LOCK = f"{LEDGER}/lock"


@contextmanager
def exclusive(target: Storage) -> Iterator[None]:
    """Within the block no other process of this machine, nor of those that share the disk, gets `target`.

    The lock is on a file that only its owner can open: anyone who may read a file may lock it, and keep others
    out. The system lets go of a process that was killed; the file that such a one leaves behind locks nothing. A
    bucket has no such lock, and neither has every network file system: there nothing is held, nor refused.

    Raises:
        UsageError: another run writes there now.
    """
    if not target.is_local:
        yield
        return
    with target.local.left_as_found():  # by a run that was refused
        lock = _locked(target)  # workers that are started meanwhile do not inherit it
        try:
            yield
        finally:
            with suppress(OSError):  # an output that is gone, or cannot be written any more
                target.delete(LOCK)  # while it is held: see `_stands`
                target.local.delete_empty(LEDGER)
            os.close(lock)


def _locked(target: Storage) -> int:
    """The descriptor of the lock's file, held."""
    while True:
        try:
            lock = _opened(target)
        except FileNotFoundError:  # another run has just removed the empty folder
            continue
        with ExitStack() as undo:
            undo.callback(os.close, lock)
            _hold(lock, target)
            if _stands(lock, target):
                undo.pop_all()
                return lock


def _opened(target: Storage) -> int:
    try:
        return target.local.private(LOCK)
    except PermissionError:
        raise UsageError(
            f"cannot lock --output {target.url()}: {target.url(LOCK)} is another user's; wait for the end of that run, "
            "or remove the file if there is none"
        ) from None


def _hold(lock: int, target: Storage) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            f"another run writes to --output {target.url()}: wait for its end, or choose another output"
        ) from None
    except OSError:
        pass  # a file system that knows no locks


def _stands(lock: int, target: Storage) -> bool:
    """Whether the file that is held is still the one that others find: a run that ended has removed its own."""
    try:
        return os.path.samestat(os.fstat(lock), target.local.status(LOCK))
    except FileNotFoundError:
        return False
