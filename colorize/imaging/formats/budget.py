"""How much metadata of one image is read: never more than its file holds, nor in more pieces than people ever write.

A few bytes can claim far more: tags whose values overlap, text that was compressed, millions of empty chunks. Each
reader of metadata takes what it reads out of a budget, so that memory stays in proportion to the file.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import TypeVar

from colorize.imaging.formats.errors import ImageDecodeError

T = TypeVar("T")

MOST_PIECES = 10_000  # chunks, segments, boxes or tags of one file; a scan has a few dozen
PROFILE_BYTES = 16 << 20  # of a decompressed color profile; those for printers, with large tables, have about 2 MB


class Budget:
    """What may still be read of one file's metadata."""

    def __init__(self, pieces: int, size: int) -> None:
        """`size` in bytes."""
        self.pieces, self.size = pieces, size
        self._left = [pieces, size]

    def take(self, pieces: int, size: int) -> None:
        """Takes so much out. Raises ImageDecodeError (`oversized_metadata`) where less is left."""
        self._left[0] -= pieces
        self._left[1] -= size
        if self._left[0] < 0:
            raise ImageDecodeError(
                "oversized_metadata", f"more than {self.pieces:,} pieces of metadata: damaged, or made to harm"
            )
        if self._left[1] < 0:
            raise ImageDecodeError(
                "oversized_metadata", f"its metadata claims more than the {self.size:,} bytes of the file"
            )


def counted(pieces: Iterable[T]) -> Iterator[T]:
    """The same pieces; raises ImageDecodeError (`oversized_metadata`) after `MOST_PIECES`."""
    budget = Budget(MOST_PIECES, 0)
    for piece in pieces:
        budget.take(1, 0)
        yield piece


def decompressed(data: bytes, most: int) -> bytes | None:
    """What a zlib stream holds; None where it is damaged, or holds more than `most` bytes."""
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(data, most + 1)
    except zlib.error:
        return None
    return content if stream.eof and len(content) <= most else None
