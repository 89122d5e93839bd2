"""Limits the metadata read from one image to the size of its file and to a reasonable number of pieces.

A small file can claim much more: tags with overlapping values, compressed text, millions of empty chunks. Each metadata
reader uses a budget, so memory stays proportional to the file.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import TypeVar

from colorize.imaging.formats.errors import ImageDecodeError

T = TypeVar("T")

MAX_PIECES = 10_000  # chunks, segments, boxes or tags of one file; a scan has a few dozen
PROFILE_BYTES = 16 << 20  # maximum size of a decompressed color profile; printer profiles have about 2 MB


class Budget:
    """The remaining metadata that may be read from a file."""

    def __init__(self, pieces: int, size: int) -> None:
        """`size` in bytes."""
        self.pieces, self.size = pieces, size
        self._remaining = [pieces, size]

    def take(self, pieces: int, size: int) -> None:
        """Uses some of the budget. Raises ImageDecodeError (`oversized_metadata`) if it is exceeded."""
        self._remaining[0] -= pieces
        self._remaining[1] -= size
        if self._remaining[0] < 0:
            raise ImageDecodeError(
                "oversized_metadata", f"more than {self.pieces:,} pieces of metadata: damaged or malicious"
            )
        if self._remaining[1] < 0:
            raise ImageDecodeError(
                "oversized_metadata", f"its metadata claims more than the {self.size:,} bytes of the file"
            )


def limited(pieces: Iterable[T]) -> Iterator[T]:
    """Yields the pieces; raises ImageDecodeError (`oversized_metadata`) after `MAX_PIECES`."""
    budget = Budget(MAX_PIECES, 0)
    for piece in pieces:
        budget.take(1, 0)
        yield piece


def decompressed(data: bytes, max_bytes: int) -> bytes | None:
    """The content of a zlib stream; None if it is damaged or has more than `most` bytes."""
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(data, max_bytes + 1)
    except zlib.error:
        return None
    return content if stream.eof and len(content) <= max_bytes else None
