"""Transcodes the luma of a JPEG losslessly and without its chroma, for files whose components share scans.

Uses libjpeg-turbo's lossless transform in memory if the system has the library (Debian's `libturbojpeg0`, Homebrew's
`jpeg-turbo`). Otherwise, and for files that the library refuses or warns about, uses jpeglib, which needs temporary
files and five times the time. Both write the same bytes: the same coefficients with the standard's Huffman tables.
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
from colorize.imaging.formats.jpeg_stream import DHT, SOF0, SOF1, segments, without_metadata

Coefficients = NDArray[np.int16]  # (blocks down, blocks across, 8, 8)

_LIBRARIES = ("libturbojpeg.so.0", "libturbojpeg.0.dylib", "libturbojpeg.dylib")
_MAX_COEFFICIENT = 1023  # maximum coefficient with a code in the standard's Huffman tables, for 8-bit samples
_AC_BITS, _DC_BITS = 10, 11  # maximum sizes of AC coefficients and DC differences in those tables
_GREY_WITHOUT_MARKERS = 8 | 64  # TJXOPT_GRAY, TJXOPT_COPYNONE


class _Transform(ctypes.Structure):
    """`tjtransform` of turbojpeg.h."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("x", "y", "w", "h", "op", "options")),
        *((name, ctypes.c_void_p) for name in ("data", "filter")),
    )


def grey_jpeg(source: bytes, size: tuple[int, int]) -> bytes:
    """A sequential, Huffman-coded grey JPEG with the luma coefficients of any JPEG of `size` (width, height).

    Raises:
        ImageDecodeError: `unreadable`.
    """
    return (_is_transformable(source) and _transformed(source)) or _by_jpeglib(source, size)


def luma_coefficients(data: bytes) -> Coefficients:
    """The quantized luma coefficients of a JPEG, (blocks down, blocks across, 8, 8).

    Raises:
        ImageDecodeError: `unreadable`.
    """
    with _scratch() as scratch:
        return _read_luma(data, scratch)[0]


def _is_transformable(source: bytes) -> bool:
    """Whether it is sequential, and all of its Huffman codes are for coefficients that the standard's tables have.

    The transform does not check coefficients, and would write wrong ones for a damaged file.
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
    """Transcodes with libjpeg-turbo; None without the library, and for files that it warns about."""
    library = _turbojpeg()
    if library is None:
        return None
    handle, output, length = ctypes.c_void_p(library.tjInitTransform()), ctypes.c_void_p(), ctypes.c_ulong()
    transform = _Transform(options=_GREY_WITHOUT_MARKERS)
    references = (ctypes.byref(each) for each in (output, length, transform))
    try:
        failed = library.tjTransform(handle, source, ctypes.c_ulong(len(source)), 1, *references, 0)
        return None if failed or not output.value else ctypes.string_at(output.value, length.value)
    finally:
        library.tjFree(output)
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
        if (
            blocks.max() > _MAX_COEFFICIENT
            or blocks[:, 0].min() < -_MAX_COEFFICIENT - 1
            or blocks[:, 1:].min() < -_MAX_COEFFICIENT
        ):
            # The encoder would not refuse them, but write wrong data.
            raise ImageDecodeError("unreadable", "JPEG with coefficients out of range: damaged data")
        copy = jpeglib.from_dct(Y=y, qt=table[np.newaxis])
        copy.width, copy.height = size
        path = scratch / "grey.jpg"
        copy.write_dct(str(path))
        return path.read_bytes()


def _read_luma(data: bytes, scratch: Path) -> tuple[Coefficients, NDArray[np.uint16]]:
    """Luma coefficients and their table. Calls jpeglib's C library: its reader leaks temporary files on errors."""
    _choose_library()
    path = scratch / "read.jpg"
    path.write_bytes(without_metadata(data))  # jpeglib reads no file with more than 49 metadata segments
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
    """Chooses libjpeg-turbo: the fastest of jpeglib's libraries, which also supports arithmetic coding."""
    jpeglib.version.set("turbo210")


@contextmanager
def _scratch() -> Iterator[Path]:
    """A temporary folder for jpeglib; converts its errors, which have no errno, to ImageDecodeError."""
    with tempfile.TemporaryDirectory(prefix="colorize-") as folder:
        try:
            yield Path(folder)
        except OSError as e:
            if e.errno is not None:  # an error of the disk
                raise
            raise ImageDecodeError("unreadable", "the luma of the JPEG cannot be copied: damaged data") from e
