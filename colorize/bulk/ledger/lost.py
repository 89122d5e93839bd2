"""The losses of a damaged archive: some of its rows, or all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from colorize.bulk.ledger.manifest import Record

ARCHIVE_UNREADABLE = "archive_unreadable"  # error code of rows with readable images, but other unreadable columns


@dataclass
class Lost:
    """The losses of one archive.

    Attributes:
        reason: why there is no output at all; "" if there is one.
        rows: runs of rows with unreadable values: first row, last row + 1, message.
    """

    reason: str = ""
    rows: list[tuple[int, int, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.reason or self.rows)

    def add(self, first: int, messages: Sequence[str]) -> None:
        """Adds rows from `first` on, by their messages; "" for a row without losses."""
        for row, message in enumerate(messages, first):
            if not message:
                continue
            if self.rows and self.rows[-1][1:] == (row, message):
                self.rows[-1] = (self.rows[-1][0], row + 1, message)
            else:
                self.rows.append((row, row + 1, message))

    def applied_to(self, record: Record) -> Record:
        """The record of one of the archive's rows, failed if the row has losses."""
        if self.reason:
            return record.failed(ARCHIVE_UNREADABLE, self.reason) if record.status == "ok" else record
        row = int(record.path.rpartition("#")[2])
        message = next((words for first, last, words in self.rows if first <= row < last), "")
        return record.failed(ARCHIVE_UNREADABLE, message) if message and record.status != "failed" else record
