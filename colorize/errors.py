"""Errors that end a job: one line that names the value, the limit and the way out, and an exit status."""

from __future__ import annotations

EXIT_STOPPED = 130  # as of a shell command that Ctrl-C has ended


class UsageError(ValueError):
    """Wrong usage or configuration (exit status 2): the message names the value, the limit and the way out."""


class StoppedError(RuntimeError):
    """A job that ended for a reason outside of it: one line that says what to do, and the exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status
