"""A process that applies a function to what it is sent, within limits on time and memory, until an item kills it."""

from __future__ import annotations

import faulthandler
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
from colorize.imaging.settings import LimitSettings

START_SECONDS = 240.0  # for the child's imports, and for loading a network, on a busy machine


class Child:
    """The parent's side."""

    def __init__(self, function: Callable[[Any], Any], limits: LimitSettings, silent: bool = False) -> None:
        """Starts the process and does not wait for it, which takes about a second. `function` must be picklable.

        What decoders say on stderr, which names no file, is dropped where it shall be `silent`.

        Raises OSError where no process can be started.
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
        """The function's result, or the `Fault` that the item has shown.

        Raises OSError or EOFError where the process does not come up, which is no item's fault.
        """
        self._await()
        try:
            self.connection.send(item)
            if self.connection.poll(self.limits.seconds):
                return self.connection.recv()
        except (EOFError, OSError):
            self.stop()
            return Fault("crashed", f"working on this image ended its process ({_cause(self.process.returncode)})")
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

    def _await(self) -> None:
        if not self._is_ready:
            if not self.connection.poll(START_SECONDS):
                raise OSError(f"a process for single images did not start within {START_SECONDS:.0f} s")
            self.connection.recv()
            self._is_ready = True


def serve(connection: Connection) -> None:
    """The child's side: gets a function and limits, then answers item by item until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group: the parent ends this process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # writing the memory of a crash to disk may take a minute
    function, limits = connection.recv()
    connection.send("ready")
    while True:
        item = connection.recv_bytes()
        faulthandler.dump_traceback_later(2 * limits.seconds, exit=True)  # if the parent has died, nothing else would
        connection.send(_answer(function, item, limits))
        faulthandler.cancel_dump_traceback_later()


def _answer(function: Callable[[Any], Any], item: bytes, limits: LimitSettings) -> Any:
    try:
        argument = pickle.loads(item)  # may import modules, which no image is to be blamed for
        with memory_limit(limits.memory_mb):
            return function(argument)
    except Exception as error:  # one image's fault: the process goes on to the next
        return fault_of(error)


def _cause(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
