"""What became of one picture, for a person at a terminal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """A picture that was done, or was not, and the line that says so."""

    ok: bool
    line: str
