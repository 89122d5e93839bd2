"""Isolates images that crash, stall or exhaust the memory of their process.

By default, images are processed in the caller's process at full speed. An image that exceeds `limits.seconds` kills
the process, like a crash in a decoder; one that exceeds `limits.memory_mb` raises MemoryError. In isolated mode, for
processes that must not die or have died before, each image is processed in a child process with the same limits. An
image whose child dies becomes a `Fault`; the others continue.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

from colorize.imaging.formats import ImageDecodeError
from colorize.imaging.sandbox.child import Child
from colorize.imaging.sandbox.faults import Fault, fault_of
from colorize.imaging.sandbox.memory import memory_limit
from colorize.imaging.sandbox.watchdog import watchdog
from colorize.imaging.settings import LimitSettings

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")


class Guarded(Generic[T, R]):
    """Calls `function` on items so that a fault of one does not affect the others: `with Guarded(...) as call`.

    Args:
        function: of one item; items, function and results must be picklable.
        limits: on time and memory per item. Memory used by other threads at the same time counts as well.
        isolated: process every item in a child process.
        is_heavy: whether an item may exceed `limits.memory_mb`. Such items are always processed in a child process,
            because some decoders crash when memory runs out.
        silent: discard the child's stderr.
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
        """Starts the child process in advance."""
        if self.child is None:
            self.child = Child(self.function, self.limits, self.silent)

    def close(self) -> None:
        """Stops the child process, if there is one; the next isolated call starts a new one."""
        if self.child is not None:
            self.child.stop()
            self.child = None

    def __call__(self, item: T) -> R | Fault:
        """The function's result, or a `Fault` if it raises, or if the child process dies or exceeds the time limit."""
        if not self.isolated:
            try:
                with watchdog(self.limits.seconds), memory_limit(self.limits.memory_mb):
                    if not self.is_heavy(item):
                        return self.function(item)
            except Exception as error:  # any fault of one item
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
    """Runs functions in a child process within limits: `with Sandbox(limits) as run: run(function, ...)`."""

    def __init__(self, limits: LimitSettings) -> None:
        """Starts the child process without waiting for it."""
        self._guarded: Guarded[Callable[[], Any], Any] = Guarded(_called, limits, isolated=True, silent=True)
        self._guarded.start()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._guarded.close()

    def __call__(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's result. The function, its arguments and the result must be picklable.

        Raises:
            ImageDecodeError: for any exception of the function, and for `too_slow`, `out_of_memory` and `crashed`.
        """
        done = self._guarded(partial(function, *args, **kwargs))
        if isinstance(done, Fault):
            raise ImageDecodeError(done.code, done.message)
        result: R = done
        return result


def _called(task: Callable[[], R]) -> R:
    return task()
