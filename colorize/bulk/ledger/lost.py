"""What could not be carried over from a damaged archive into its output, row by row or as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from colorize.bulk.ledger.manifest import Record

ARCHIVE_UNREADABLE = "archive_unreadable"  # the code of such rows, whose images can be read


@dataclass
class Lost:
    """What is lost of one archive.

    Attributes:
        reason: why there is no output at all; "" if there is one.
        rows: runs of rows of which something cannot be read: the first, the one behind the last, and what.
    """

    reason: str = ""
    rows: list[tuple[int, int, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.reason or self.rows)

    def add(self, first: int, messages: Sequence[str]) -> None:
        """Takes note of the next rows: what of each cannot be read, "" for nothing."""
        for row, message in enumerate(messages, first):
            if not message:
                continue
            if self.rows and self.rows[-1][1:] == (row, message):
                self.rows[-1] = (self.rows[-1][0], row + 1, message)
            else:
                self.rows.append((row, row + 1, message))

    def settled(self, record: Record) -> Record:
        """The record of one of the archive's rows, as it is now: a failure without a copy where the row is lost."""
        if self.reason:
            return record.failed(ARCHIVE_UNREADABLE, self.reason) if record.status == "ok" else record
        row = int(record.path.rpartition("#")[2])
        message = next((words for first, last, words in self.rows if first <= row < last), "")
        return record.failed(ARCHIVE_UNREADABLE, message) if message and record.status != "failed" else record
