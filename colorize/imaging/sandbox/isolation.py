"""A picture that kills the process that works on it: found by working on it in a process of its own, and blamed.

The first attempt of a task works in process, at full speed. Only a watchdog runs beside it: a picture that takes
longer than `limits.seconds` ends the process, as a crash in a decoder does by itself. Ray then runs the task again,
and from its second attempt on every picture goes through a child process, one after the other, with limits on time
and memory. The picture that its child does not survive becomes a failed row; the others go on.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Generic, TypeVar

from colorize.imaging.formats import ImageDecodeError
from colorize.imaging.sandbox.memory_limit import memory_limit
from colorize.imaging.settings import LimitSettings

T = TypeVar("T")
R = TypeVar("R")

OUT_OF_MEMORY = "decoding it, or making its copy, takes more memory than limits.memory_mb allows or the machine has"
BYTES_PER_PIXEL = 12  # that decoding and coloring a picture takes at most, roughly; 16 bits a sample more
START_SECONDS = 240.0  # for the child's imports, and for loading a network, on a busy machine


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, also where a decoder's wrapper calls that a fault of the picture."""
    return isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError)


def known_fault(error: BaseException) -> tuple[str, str] | None:
    """Code and message of what can be told of a picture's fault; None for a fault of another kind."""
    if is_out_of_memory(error):
        return "out_of_memory", OUT_OF_MEMORY
    return (error.code, str(error)) if isinstance(error, ImageDecodeError) else None


@dataclass(frozen=True, slots=True)
class Fault:
    """Why there is no result for a picture: an error code of the manifest, and a sentence."""

    code: str
    message: str


def attempt() -> int:
    """How often Ray has started the present task before; 0 outside of tasks."""
    from ray._private.worker import global_worker  # not public; and here, since a child needs no Ray

    core = getattr(global_worker, "core_worker", None)
    return int(core.get_current_task_attempt_number()) if core is not None else 0


def may_exceed(pixels: int, limits: LimitSettings) -> bool:
    """Whether a picture of this size may need more than the memory that one is allowed."""
    return bool(limits.memory_mb) and pixels * BYTES_PER_PIXEL > limits.memory_mb * 2**20


def was_restarted() -> bool:
    """Whether the actor that this runs in died before; False outside of actors."""
    import ray  # here, since a child needs no Ray

    context = ray.get_runtime_context() if ray.is_initialized() else None
    return context is not None and context.get_actor_id() is not None and context.was_current_actor_reconstructed


class Careful(Generic[T, R]):
    """Calls `function` on one item after the other so that no item takes the others down: `with Careful(...) as call`.

    Args:
        function: of one item; picklable, as items and results are.
        limits: on the seconds, and in a child on the memory, that one item may take.
        is_heavy: whether an item may need more than `limits.memory_mb`; it goes to a child at once.
    """

    def __init__(
        self, function: Callable[[T], R], limits: LimitSettings, is_heavy: Callable[[T], bool] = lambda item: False
    ) -> None:
        self.function = function
        self.limits = limits
        self.is_heavy = is_heavy
        self.is_retry = attempt() > 0
        self.child: Child | None = None

    def __enter__(self) -> Careful[T, R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the child process, if there is one; another call would start one again."""
        if self.child is not None:
            self.child.stop()
            self.child = None

    def __call__(self, item: T) -> R | Fault:
        if self.is_retry or self.is_heavy(item):
            return self._isolated(item)
        faulthandler.dump_traceback_later(self.limits.seconds, exit=True, file=2)  # a thread in C: needs no interpreter
        try:
            return self.function(item)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _isolated(self, item: T) -> R | Fault:
        if self.child is None:
            self.child = Child(self.function, self.limits)
        result: R | Fault = self.child(item)
        if not self.child.alive:
            self.child = None
        return result


class Child:
    """A process that holds a function and applies it to what it is sent, until an item kills it."""

    def __init__(self, function: Callable[[Any], Any], limits: LimitSettings) -> None:
        """Raises OSError or EOFError where no process can be started."""
        self.limits = limits
        self.alive = True
        self.connection, theirs = Pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "colorize.imaging.sandbox.isolated", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self.connection.send((function, limits))
        if not self.connection.poll(START_SECONDS):
            raise OSError(f"a process for single pictures did not start within {START_SECONDS:.0f} s")
        self.connection.recv()

    def __call__(self, item: Any) -> Any:
        """The function's result, or the `Fault` that the item has shown."""
        try:
            self.connection.send(item)
            if self.connection.poll(self.limits.seconds):
                return self.connection.recv()
        except (EOFError, OSError):
            self.stop()
            return Fault("crashed", f"working on this picture ended its process ({_cause(self.process.returncode)})")
        self.stop()
        return Fault("too_slow", f"not done within {self.limits.seconds:g} s; raise limits.seconds")

    def stop(self) -> None:
        """Ends the process."""
        self.alive = False
        self.connection.close()
        try:
            self.process.wait(0.5)  # it may be dying: how tells what happened
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def serve(connection: Connection) -> None:
    """The child's side: gets a function and limits, then answers item by item until the parent is gone."""
    function, limits = connection.recv()
    connection.send("ready")
    while True:
        item = connection.recv()
        faulthandler.dump_traceback_later(2 * limits.seconds, exit=True)  # a parent that died ends nobody
        try:
            with memory_limit(limits.memory_mb):
                answer = function(item)
        except MemoryError:
            answer = Fault("out_of_memory", OUT_OF_MEMORY)
        connection.send(answer)
        faulthandler.cancel_dump_traceback_later()


def _cause(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
