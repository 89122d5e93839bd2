"""Logs the start and end of each image's work, in every process with this folder on PYTHONPATH.

`STOPWATCH/<process id>` gets a line for each: the monotonic clock's time, and `+` or `-`. An image whose process dies
has no end. The start of a child process is not counted: the image's start is logged again afterwards.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

SANDBOX = "colorize.imaging.sandbox."


def note(sign: str) -> None:
    """Writes one line."""
    with Path(os.environ["STOPWATCH"], str(os.getpid())).open("a", encoding="ascii") as file:
        file.write(f"{time.monotonic()} {sign}\n")


def timed(module: ModuleType) -> None:
    """Wraps the module's calls."""
    if module.__name__ == f"{SANDBOX}guarded":
        call: Callable[..., Any] = module.Guarded.__call__

        def guarded(self: object, item: object) -> Any:
            note("+")
            try:
                return call(self, item)
            finally:
                note("-")

        module.Guarded.__call__ = guarded
    else:
        wait: Callable[..., None] = module.Child._await

        def awaited(self: object) -> None:
            wait(self)
            note("+")

        module.Child._await = awaited


class Patcher(importlib.abc.MetaPathFinder):
    """Patches the sandbox's modules after they are imported."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """As in importlib."""
        if name not in (f"{SANDBOX}guarded", f"{SANDBOX}child"):
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        sys.meta_path.insert(0, self)
        assert spec is not None
        assert spec.loader is not None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            timed(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if "STOPWATCH" in os.environ:
    sys.meta_path.insert(0, Patcher())
