"""An image that kills the process that works on it: found by working on it alone in a child process, and blamed.

In the process that asks, work goes at full speed. An image that takes longer than `limits.seconds` ends the process,
as a crash in a decoder does by itself; one that wants more memory than `limits.memory_mb` gets MemoryError. Who cannot
afford to be ended, or was before, has each image go through a child process, one after the other, with the same limits.
The image that its child does not survive becomes a `Fault`; the others go on.
"""

from __future__ import annotations

import faulthandler
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

from colorize.imaging.formats import ImageDecodeError
from colorize.imaging.sandbox.child import Child
from colorize.imaging.sandbox.faults import Fault, fault_of
from colorize.imaging.sandbox.memory import memory_limit
from colorize.imaging.settings import LimitSettings

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")


@contextmanager
def watchdog(seconds: float) -> Iterator[None]:
    """Ends the process if the block takes longer: by a thread in C, which needs no interpreter. Blocks cannot nest."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


class Guarded(Generic[T, R]):
    """Calls `function` on one item after the other so that no item takes the others down: `with Guarded(...) as call`.

    Args:
        function: of one item; picklable, as items and results are.
        limits: on the seconds and the memory that one item may take. What threads beside it take counts as well.
        isolated: every item goes to a child.
        is_heavy: whether an item may need more than `limits.memory_mb`; it goes to a child, too, since not every
            decoder survives that.
        silent: what a child says on stderr is dropped.
    """

    def __init__(
        self,
        function: Callable[[T], R],
        limits: LimitSettings,
        *,
        isolated: bool,
        is_heavy: Callable[[T], bool] = lambda item: False,
        silent: bool = False,
    ) -> None:
        self.function = function
        self.limits = limits
        self.isolated = isolated
        self.is_heavy = is_heavy
        self.silent = silent
        self.child: Child | None = None

    def __enter__(self) -> Guarded[T, R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Starts the child now, so that it is there when it is needed."""
        if self.child is None:
            self.child = Child(self.function, self.limits, self.silent)

    def close(self) -> None:
        """Ends the child process, if there is one; another call would start one again."""
        if self.child is not None:
            self.child.stop()
            self.child = None

    def __call__(self, item: T) -> R | Fault:
        """What the function makes of the item; a `Fault` where it raises, or does not come back in time."""
        if not self.isolated:
            try:
                with watchdog(self.limits.seconds), memory_limit(self.limits.memory_mb):
                    if not self.is_heavy(item):
                        return self.function(item)
            except Exception as error:  # one item's fault: the others go on
                return fault_of(error)
        return self._isolated(item)

    def _isolated(self, item: T) -> R | Fault:
        self.start()
        assert self.child is not None
        result: R | Fault = self.child(item)
        if not self.child.alive:
            self.child = None
        return result


class Sandbox:
    """Functions of single images, each call in a child process within limits: `with Sandbox(limits) as run`."""

    def __init__(self, limits: LimitSettings) -> None:
        """Starts the child process, and does not wait for it."""
        self._guarded: Guarded[Callable[[], Any], Any] = Guarded(_called, limits, isolated=True, silent=True)
        self._guarded.start()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._guarded.close()

    def __call__(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's result; it, its arguments and the result must be picklable.

        Raises:
            ImageDecodeError: whatever the function raises; or `too_slow`, `out_of_memory` or `crashed`.
        """
        done = self._guarded(partial(function, *args, **kwargs))
        if isinstance(done, Fault):
            raise ImageDecodeError(done.code, done.message)
        result: R = done
        return result


def _called(task: Callable[[], R]) -> R:
    return task()
