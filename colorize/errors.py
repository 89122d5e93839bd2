"""Errors that end a job, and printable text: one line that names the value, the limit and the remedy.

Untrusted text (file names, servers' responses, error messages) is escaped before it reaches a terminal or log: an
escape sequence in a file name could clear the screen, rename the window or fake another line, a line break could add a
line, and bidirectional controls could show a name backwards.
"""

from __future__ import annotations

import re
import sys
from typing import TextIO

EXIT_FAULT, EXIT_USAGE, EXIT_FAILURES = 1, 2, 3
EXIT_STOPPED = 130  # as the shell reports for Ctrl-C

# Control characters, lone surrogates (bytes of a name that are not UTF-8), line and paragraph separators, and
# bidirectional controls. Spaces, joiners and combining marks of any script stay: names need them.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class UsageError(ValueError):
    """Wrong usage or configuration (exit status 2): the message names the value, the limit and the remedy."""


class StoppedError(RuntimeError):
    """A job ended for an external reason: one line that says what to do, and the exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def printable(text: str) -> str:
    r"""The text with control characters escaped.

    >>> print(printable("a\x1b[2J\n.jpg"))
    a\x1b[2J\n.jpg
    """
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(error: BaseException, limit: int = 300) -> str:
    """An error's message on one line of at most `limit` characters."""
    text = joined(str(error)) or type(error).__name__
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def joined(text: str) -> str:
    """The lines of a text as one, printable."""
    return printable(" ".join(text.split()))


def say(line: str, file: TextIO | None = None) -> None:
    """Prints one line, by default on stdout. All output of the commands goes through here."""
    print(printable(line), file=file or sys.stdout)
