"""Encoded images: bytes in memory, or a file that is read in parts, so that a huge scan is never in memory."""

from __future__ import annotations

import hashlib
import io
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Protocol

from colorize.imaging.formats.errors import ImageDecodeError

_CHUNK_BYTES = 1 << 20


class Encoded(Protocol):
    """An encoded image: `bytes`, or an object with the same length and slices."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...


class FileBytes:
    """A file's content, read when it is sliced. Pickled as the file's path and state.

    Raises ImageDecodeError (`changed`) if the file has changed since it was opened.
    """

    def __init__(self, path: str | os.PathLike[str], *, owned: bool = False) -> None:
        """An `owned` file is temporary and deleted with this object. Raises OSError if there is no such file."""
        self.path = Path(path)
        self.owned = owned
        self._file = self.path.open("rb", buffering=0)
        self._state = self._stat()

    def __del__(self) -> None:
        if file := getattr(self, "_file", None):
            file.close()
            if self.owned:
                self.path.unlink(missing_ok=True)

    def __reduce__(self) -> tuple[Callable[..., FileBytes], tuple[str, tuple[int, int]]]:
        return _reopened, (str(self.path), self._state)

    def __len__(self) -> int:
        return self._state[0]

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, step = part.indices(len(self))
        if self._stat() != self._state:
            raise ImageDecodeError("changed", "the file changed while the job ran; run again")
        found = list[bytes]()
        while start < stop and (chunk := os.pread(self._file.fileno(), stop - start, start)):
            found.append(chunk)  # a single read is limited to 2 GB
            start += len(chunk)
        return (found[0] if len(found) == 1 else b"".join(found))[::step]

    def _stat(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns


def _reopened(path: str, state: tuple[int, int]) -> FileBytes:
    file = FileBytes(path)
    file._state = state
    return file


def opened(data: Encoded) -> IO[bytes]:
    """The image as a binary file, which the caller closes."""
    return data.path.open("rb") if isinstance(data, FileBytes) else io.BytesIO(whole(data))


def whole(data: Encoded) -> bytes:
    """The image as bytes, without copying if it already is."""
    return data if isinstance(data, bytes) else data[:]


def pieces(data: Encoded) -> Iterator[bytes]:
    """The content in consecutive pieces."""
    return (data[start : start + _CHUNK_BYTES] for start in range(0, len(data), _CHUNK_BYTES))


def sha256(data: Encoded, seconds: float = math.inf) -> str:
    """The content's SHA-256, hexadecimal. Raises TimeoutError if it takes longer than `seconds`."""
    digest, end = hashlib.sha256(), time.monotonic() + seconds
    for chunk in pieces(data):
        digest.update(chunk)
        if time.monotonic() > end:
            raise TimeoutError(f"hashing {len(data):,} bytes takes more than {seconds:g} s")
    return digest.hexdigest()
