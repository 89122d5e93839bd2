"""What ends a job, and lines for people: one line that names the value, the limit and the way out.

What strangers chose (file names, servers' answers, the texts of faults) cannot act on a terminal or a log: an escape
sequence in a file's name could clear the screen, rename the window or fake another line, a line break could add a line,
and marks of direction could show a name backwards.
"""

from __future__ import annotations

import re
import sys
from typing import TextIO

EXIT_FAULT, EXIT_USAGE, EXIT_FAILURES = 1, 2, 3
EXIT_STOPPED = 130  # as of a shell command that Ctrl-C has ended

# Control characters, lone surrogates (bytes of a name that are no UTF-8), line and paragraph separators, and the marks
# that turn the direction of text around. Blanks, joiners and combining marks of any script stay: names need them.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class UsageError(ValueError):
    """Wrong usage or configuration (exit status 2): the message names the value, the limit and the way out."""


class StoppedError(RuntimeError):
    """A job that ended for a reason outside of it: one line that says what to do, and the exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def printable(text: str) -> str:
    r"""The text with everything that acts instead of being seen written as an escape.

    >>> print(printable("a\x1b[2J\n.jpg"))
    a\x1b[2J\n.jpg
    """
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(error: BaseException, limit: int = 300) -> str:
    """A fault's text on one line of at most `limit` characters."""
    text = joined(str(error)) or type(error).__name__
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def joined(text: str) -> str:
    """The lines of a text as one, printable."""
    return printable(" ".join(text.split()))


def say(line: str, file: TextIO | None = None) -> None:
    """Prints one line, on stdout by default: all that the commands print goes through here."""
    print(printable(line), file=file or sys.stdout)
