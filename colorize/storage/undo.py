"""Undoes a step if what follows it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import ParamSpec

P = ParamSpec("P")


@contextmanager
def on_failure(undo: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[None]:
    """Calls `undo` if the block raises any exception."""
    with ExitStack() as stack:
        stack.callback(undo, *args, **kwargs)
        yield
        stack.pop_all()
