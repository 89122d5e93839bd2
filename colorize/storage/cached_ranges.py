"""A file some of whose ranges are held in memory, so that they are fetched once although they are read twice."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import IO


class CachedRanges(io.RawIOBase):
    """Reads like the file it stands for, which is the caller's to close.

    Attributes:
        size: of the file in bytes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._is_near = isinstance(file, io.BufferedReader | io.BytesIO)  # where a read costs nothing
        self._held: list[tuple[int, bytes]] = []
        self._over: dict[int, Sequence[tuple[int, bytes]]] = {}
        self._position = 0
        self.size = file.seek(0, io.SEEK_END)

    def hold(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Fetches these ranges (start, length), and lets go of the ones before; of a near file none."""
        if self._is_near:
            return
        have = {(start, len(data)): data for start, data in self._held}
        self._held = [(start, have.get((start, length)) or self._fetch(start, length)) for start, length in ranges]

    def lay_over(self, key: int, pieces: Sequence[tuple[int, bytes]]) -> None:
        """Has other bytes read in these places (start, bytes), and lets go of what was laid over for the same key."""
        self._over[key] = pieces

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes from the position on; all that are left for -1."""
        left = max(self.size - self._position, 0)
        size = left if size is None or size < 0 else min(size, left)
        found = self._from_memory(size)
        data = self._changed(self._position, self._fetch(self._position, size) if found is None else found)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves the position."""
        self._position = max({io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence] + offset, 0)
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def _from_memory(self, size: int) -> bytes | None:
        for start, data in self._held:
            if start <= self._position and self._position + size <= start + len(data):
                return data[self._position - start : self._position - start + size]
        return None

    def _changed(self, start: int, data: bytes) -> bytes:
        """What was read from `start` on, with what lies over it."""
        stop = start + len(data)
        for at, piece in chain.from_iterable(self._over.values()):
            first, last = max(at, start), min(at + len(piece), stop)
            if first < last:
                data = data[: first - start] + piece[first - at : last - at] + data[last - start :]
        return data

    def _fetch(self, start: int, size: int) -> bytes:
        self._file.seek(start)
        return self._file.read(size)
