"""What became of one image, for a person at a terminal or a program."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """An image that was done, or was not.

    Attributes:
        ok: nothing is wrong with it.
        source: its path or link.
        message: what it was, or why it failed.
        output: where its copy went; empty where there is none.
        images: how many it speaks of: an archive's outcome is that of its rows.
    """

    ok: bool
    source: str
    message: str
    output: str = ""
    images: int = 1

    @property
    def line(self) -> str:
        """All of it, as a person would say it."""
        return f"{self.source} -> {self.output} ({self.message})" if self.output else f"{self.source}: {self.message}"

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)
