"""A lock that allows one run at a time per output."""

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
    """Locks `target` within the block, for processes of this machine and of others that share the disk.

    The lock file can only be opened by its owner, because anyone who can read a file can lock it. The system releases
    the lock of a killed process; the file that it leaves behind locks nothing. Buckets, and file systems without locks,
    are not locked.

    Raises:
        UsageError: another run has locked the output.
    """
    if not target.is_local:
        yield
        return
    with target.local.remove_created_folders():  # if the run is refused
        lock = _locked(target)  # not inherited by workers
        try:
            yield
        finally:
            with suppress(OSError):  # the output may have been removed, or be read-only
                target.delete(LOCK)  # before releasing it: see `_is_current`
                target.local.delete_empty(LEDGER)
            os.close(lock)


def _locked(target: Storage) -> int:
    """The descriptor of the locked file."""
    while True:
        try:
            lock = _opened(target)
        except FileNotFoundError:  # another run has just removed the empty folder
            continue
        with ExitStack() as undo:
            undo.callback(os.close, lock)
            _acquire(lock, target)
            if _is_current(lock, target):
                undo.pop_all()
                return lock


def _opened(target: Storage) -> int:
    try:
        return target.local.open_private(LOCK)
    except PermissionError:
        raise UsageError(
            f"cannot lock --output {target.url()}: {target.url(LOCK)} belongs to another user; wait until that "
            "run ends, or remove the file if there is none"
        ) from None


def _acquire(lock: int, target: Storage) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            f"another run writes to --output {target.url()}: wait until it ends, or choose another output"
        ) from None
    except OSError:
        pass  # the file system does not support locks


def _is_current(lock: int, target: Storage) -> bool:
    """Whether the locked file still has its name; the previous run may have deleted it after it was opened here."""
    try:
        return os.path.samestat(os.fstat(lock), target.local.status(LOCK))
    except FileNotFoundError:
        return False
