"""A file with prefetched ranges in memory, so that data which is read twice is only fetched once."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import IO


class CachedRanges(io.RawIOBase):
    """A read-only wrapper of a file, which the caller closes.

    Attributes:
        size: of the file in bytes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._is_local = isinstance(file, io.BufferedReader | io.BytesIO)  # reads are cheap
        self._ranges: list[tuple[int, bytes]] = []
        self._overlays: dict[int, Sequence[tuple[int, bytes]]] = {}
        self._position = 0
        self.size = file.seek(0, io.SEEK_END)

    def prefetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Replaces the prefetched ranges by these (start, length); does nothing for a local file."""
        if self._is_local:
            return
        have = {(start, len(data)): data for start, data in self._ranges}
        self._ranges = [(start, have.get((start, length)) or self._fetch(start, length)) for start, length in ranges]

    def overlay(self, key: int, pieces: Sequence[tuple[int, bytes]]) -> None:
        """Overlays the file with these pieces (start, bytes), replacing earlier ones of the same key."""
        self._overlays[key] = pieces

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, or all remaining ones for -1."""
        remaining = max(self.size - self._position, 0)
        size = remaining if size is None or size < 0 else min(size, remaining)
        found = self._from_memory(size)
        data = self._changed(self._position, self._fetch(self._position, size) if found is None else found)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = max({io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence] + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def _from_memory(self, size: int) -> bytes | None:
        for start, data in self._ranges:
            if start <= self._position and self._position + size <= start + len(data):
                return data[self._position - start : self._position - start + size]
        return None

    def _changed(self, start: int, data: bytes) -> bytes:
        """Data from `start` on, with overlays applied."""
        stop = start + len(data)
        for at, piece in chain.from_iterable(self._overlays.values()):
            first, last = max(at, start), min(at + len(piece), stop)
            if first < last:
                data = data[: first - start] + piece[first - at : last - at] + data[last - start :]
        return data

    def _fetch(self, start: int, size: int) -> bytes:
        self._file.seek(start)
        return self._file.read(size)
