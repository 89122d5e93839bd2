"""The luma of a JPEG coded again without its chroma and without loss, for files whose components share scans.

libjpeg-turbo's lossless transform does it in memory, where the system has that library (Debian's `libturbojpeg0`,
Homebrew's `jpeg-turbo`). Everything else, and what that library refuses or warns of, goes through jpeglib, which needs
temporary files and five times the time. Both code the same coefficients with the standard's Huffman tables: the bytes
are the same.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import jpeglib
import numpy as np
from jpeglib._bind import CJpegLib
from numpy.typing import NDArray

from colorize.imaging.formats.errors import ImageDecodeError
from colorize.imaging.formats.jpeg_stream import DHT, SOF0, SOF1, bare, segments

Coefficients = NDArray[np.int16]  # (blocks down, blocks across, 8, 8)

_LIBRARIES = ("libturbojpeg.so.0", "libturbojpeg.0.dylib", "libturbojpeg.dylib")
_LARGEST = 1023  # coefficient of 8-bit samples that the standard's Huffman tables have a code for
_AC_BITS, _DC_BITS = 10, 11  # of the largest coefficient and difference of those tables
_GREY_WITHOUT_MARKERS = 8 | 64  # TJXOPT_GRAY, TJXOPT_COPYNONE


class _Transform(ctypes.Structure):
    """`tjtransform` of turbojpeg.h."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("x", "y", "w", "h", "op", "options")),
        *((name, ctypes.c_void_p) for name in ("data", "filter")),
    )


def grey_jpeg(source: bytes, size: tuple[int, int]) -> bytes:
    """A grey JPEG, sequential and Huffman-coded, with the luma coefficients of any JPEG of `size` (width, height).

    Raises:
        ImageDecodeError: `unreadable`.
    """
    return (_is_ordinary(source) and _transformed(source)) or _by_jpeglib(source, size)


def luma_coefficients(data: bytes) -> Coefficients:
    """The quantized luma coefficients of a JPEG, (blocks down, blocks across, 8, 8).

    Raises:
        ImageDecodeError: `unreadable`.
    """
    with _scratch() as scratch:
        return _read_luma(data, scratch)[0]


def _is_ordinary(source: bytes) -> bool:
    """Whether it is sequential and its Huffman codes are of coefficients that the standard's tables have codes for.

    The transform checks no coefficient: those of a damaged file it would code as others.
    """
    header = segments(source)
    tables = b"".join(segment.payload for segment in header if segment.marker == DHT)
    at = 0
    while at < len(tables):
        is_ac, count = tables[at] >> 4, sum(tables[at + 1 : at + 17])
        bits = (symbol & 15 for symbol in tables[at + 17 : at + 17 + count])
        if max(bits, default=0) > (_AC_BITS if is_ac else _DC_BITS):
            return False
        at += 17 + count
    return any(segment.marker in (SOF0, SOF1) for segment in header)


def _transformed(source: bytes) -> bytes | None:
    """By libjpeg-turbo; None without that library, and for a file that it warns of."""
    library = _turbojpeg()
    if library is None:
        return None
    handle, made, length = ctypes.c_void_p(library.tjInitTransform()), ctypes.c_void_p(), ctypes.c_ulong()
    wanted = _Transform(options=_GREY_WITHOUT_MARKERS)
    references = (ctypes.byref(each) for each in (made, length, wanted))
    try:
        failed = library.tjTransform(handle, source, ctypes.c_ulong(len(source)), 1, *references, 0)
        return None if failed or not made.value else ctypes.string_at(made.value, length.value)
    finally:
        library.tjFree(made)
        library.tjDestroy(handle)


@lru_cache(maxsize=1)
def _turbojpeg() -> ctypes.CDLL | None:
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.tjInitTransform.restype = ctypes.c_void_p
        return library
    return None


def _by_jpeglib(source: bytes, size: tuple[int, int]) -> bytes:
    with _scratch() as scratch:
        y, table = _read_luma(source, scratch)
        blocks = y.reshape(-1, 64)
        if blocks.max() > _LARGEST or blocks[:, 0].min() < -_LARGEST - 1 or blocks[:, 1:].min() < -_LARGEST:
            # Of a damaged file. The encoder would not refuse it, and write nonsense.
            raise ImageDecodeError("unreadable", "JPEG with coefficients that no JPEG can hold: damaged data")
        copy = jpeglib.from_dct(Y=y, qt=table[np.newaxis])
        copy.width, copy.height = size
        path = scratch / "grey.jpg"
        copy.write_dct(str(path))
        return path.read_bytes()


def _read_luma(data: bytes, scratch: Path) -> tuple[Coefficients, NDArray[np.uint16]]:
    """Luma coefficients and their table. Calls jpeglib's library itself: its reader leaves files behind on damage."""
    _choose_library()
    path = scratch / "read.jpg"
    path.write_bytes(bare(data))  # jpeglib reads no file with more than 49 metadata segments
    down, across = jpeglib.read_dct(str(path)).block_dims[0]
    y = np.zeros((down, across, 8, 8), np.int16)
    tables, used = np.zeros((4, 8, 8), np.uint16), np.zeros(4, np.int16)
    buffers = (a.ctypes.data_as(ctypes.c_void_p) for a in (y, tables, used))
    y_buffer, table_buffer, used_buffer = buffers
    if not CJpegLib.get().read_jpeg_dct(str(path).encode(), y_buffer, None, None, None, table_buffer, used_buffer):
        raise OSError("the coefficients cannot be read")
    return y, tables[used[0]]


@lru_cache(maxsize=1)
def _choose_library() -> None:
    """libjpeg-turbo: the fastest of those that jpeglib brings, and one that reads arithmetic coding."""
    jpeglib.version.set("turbo210")


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for the files that jpeglib reads and writes; what it cannot do is the source's damage."""
    with tempfile.TemporaryDirectory(prefix="colorize-") as folder:
        try:
            yield Path(folder)
        except OSError as e:
            if e.errno is not None:  # the disk's
                raise
            raise ImageDecodeError("unreadable", "JPEG whose luma cannot be carried over: damaged data") from e
