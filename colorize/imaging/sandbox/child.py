"""A child process that applies a function to items within limits on time and memory, until it dies."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from colorize.imaging.sandbox.faults import Fault, fault_of
from colorize.imaging.sandbox.memory import memory_limit
from colorize.imaging.sandbox.watchdog import watchdog
from colorize.imaging.settings import LimitSettings

START_SECONDS = 240.0  # for the child's imports, and for loading a network, on a busy machine


class Child:
    """The parent's side of the child process."""

    def __init__(self, function: Callable[[Any], Any], limits: LimitSettings, silent: bool = False) -> None:
        """Starts the process without waiting for it, which would take about a second.

        Args:
            function: picklable function of an item.
            limits: per item.
            silent: discard stderr, where decoders print warnings without a file name.

        Raises:
            OSError: the process cannot be started.
        """
        self.limits = limits
        self.alive, self._is_ready = True, False
        self.connection, theirs = Pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "colorize.imaging.sandbox.isolated", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if silent else None,
        )
        theirs.close()
        self.connection.send((function, limits))

    def __call__(self, item: Any) -> Any:
        """The function's result, or the `Fault` of the item.

        Raises:
            OSError, EOFError: the process did not start, which is not the item's fault.
        """
        self._await()
        try:
            self.connection.send(item)
            if self.connection.poll(self.limits.seconds):
                return self.connection.recv()
        except (EOFError, OSError):
            self.stop()
            return Fault("crashed", f"this image crashed its process ({_cause(self.process.returncode)})")
        self.stop()
        return Fault("too_slow", f"not done within {self.limits.seconds:g} s; raise limits.seconds")

    def stop(self) -> None:
        """Stops the process."""
        self.alive = False
        self.connection.close()
        try:
            self.process.wait(0.5)  # if it is exiting, wait for its exit status
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _await(self) -> None:
        if not self._is_ready:
            if not self.connection.poll(START_SECONDS):
                raise OSError(f"the sandbox process did not start within {START_SECONDS:.0f} s")
            self.connection.recv()
            self._is_ready = True


def serve(connection: Connection) -> None:
    """The child's side: receives a function and limits, then processes items until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole process group; the parent stops the child
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # writing a core dump may take a minute
    function, limits = connection.recv()
    connection.send("ready")
    while True:
        item = connection.recv_bytes()
        with watchdog(2 * limits.seconds):  # in case the parent has died
            connection.send(_answer(function, item, limits))


def _answer(function: Callable[[Any], Any], item: bytes, limits: LimitSettings) -> Any:
    try:
        argument = pickle.loads(item)  # may import modules, so outside of the memory limit
        with memory_limit(limits.memory_mb):
            return function(argument)
    except Exception as error:  # any fault of one image
        return fault_of(error)


def _cause(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
