"""The outcome of one image, for terminal output or JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one image or archive.

    Attributes:
        ok: it did not fail.
        source: its path or link.
        message: its kind, or why it failed.
        output: path of its copy; "" if there is none.
        images: number of images: 1, or the rows of an archive.
    """

    ok: bool
    source: str
    message: str
    output: str = ""
    images: int = 1

    @property
    def line(self) -> str:
        """The outcome as text."""
        return f"{self.source} -> {self.output} ({self.message})" if self.output else f"{self.source}: {self.message}"

    def as_dict(self) -> dict[str, Any]:
        """The outcome for JSON."""
        return asdict(self)
