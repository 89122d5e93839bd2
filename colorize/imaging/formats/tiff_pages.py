"""Finds the pages among the directories of a TIFF, and detects camera raw files that look like TIFF.

A TIFF may also have reduced copies of its pages (previews, pyramids) and masks. Programs should mark these
(NewSubfileType; TIFF 6.0, section 8), but often do not, so a smaller directory that looks the same as another one is
treated as a reduced copy, too.
"""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import tifffile
from numpy.typing import NDArray

from colorize.imaging.formats.encoded import Encoded, opened
from colorize.imaging.formats.errors import ImageDecodeError
from colorize.imaging.formats.formats import RAW, decode_errors
from colorize.imaging.formats.tiff_tags import directory_offsets

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Canon's CR2, whose first directory is at offset 16, and Phase One's IIQ.
_RAW_HEADS = re.compile(rb"II\*\0\x10\0\0\0CR\x02|(II\*\0|MM\0\*)....(IIII.waR|MMMMRaw)", re.DOTALL)
MAX_PAGES = 2000  # maximum number of pages of a file
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_OLD_REDUCED = 2  # SubfileType, its predecessor
_SUBFILE, _OLD_SUBFILE, _DNG_VERSION, _CR2_SLICES = 254, 255, 50706, 50752
_SENSOR = (32803, 34892)  # photometric interpretations: color filter array, linear raw
_SENSOR_TAGS = (_DNG_VERSION, _CR2_SLICES)
_MAX_COMPARED = 8  # maximum number of directories that are compared with the largest one
_GRID = 32  # side of the compared thumbnails in pixels
_MIN_CORRELATION = 0.95  # minimum correlation of reduced copies

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it logs each damaged tag

Page = tifffile.TiffPage
Preview = Callable[[Page], NDArray[np.uint8]]  # a page's grey image, small, of any shape (h, w)


def is_tiff(data: Encoded) -> bool:
    """Whether the file has the signature of TIFF or BigTIFF."""
    return data[:4] in SIGNATURES


@contextmanager
def directories(data: Encoded) -> Iterator[tuple[list[Page], int]]:
    """All readable directories of the main chain, while the file is open, and their total number.

    If there are more than `MAX_PAGES`, only the first is read.

    Raises:
        ImageDecodeError: `truncated` or `unreadable`.
    """
    if _RAW_HEADS.match(data[:16]):
        raise ImageDecodeError("unsupported", RAW)
    with opened(data) as file:
        with decode_errors(data, "TIFF"):
            tiff = tifffile.TiffFile(file)
            offsets = directory_offsets(data)
            if not offsets:
                raise ImageDecodeError("unreadable", "TIFF without a directory")
            read = offsets if len(offsets) <= MAX_PAGES else offsets[:1]
            found = list(_pages_at(tiff, read))
        yield found, len(offsets)


def _pages_at(tiff: tifffile.TiffFile, offsets: list[int]) -> Iterator[Page]:
    """The directories up to a damaged one. Raises if the first is damaged."""
    for index, offset in enumerate(offsets):
        tiff.filehandle.seek(offset)
        try:
            yield Page(tiff, index)
        except (tifffile.TiffFileError, struct.error, ValueError, IndexError):
            if not index:
                raise
            return


def pages(found: list[Page], preview: Preview) -> list[Page]:
    """The directories that are pages, in order.

    Raises:
        ImageDecodeError: `unsupported` for camera raw files; `unreadable` if there are no pages.
    """
    if _is_raw(found):
        raise ImageDecodeError("unsupported", RAW)
    sized = [page for page in found if page.imagewidth > 0 and page.imagelength > 0]
    if not sized:
        raise ImageDecodeError("unreadable", "TIFF without the dimensions of its image")
    full_size = [page for page in sized if not _is_marked_reduced(page)] or [max(sized, key=_area)]
    return _without_reduced_copies(full_size, preview)


def _is_raw(found: list[Page]) -> bool:
    """Whether the file has sensor data; then its first directory is a preview."""
    nested = [inner for page in found[:_MAX_COMPARED] for inner in _subdirectories(page)]
    if any(page.photometric in _SENSOR for page in (*found, *nested)):
        return True
    if any(tag in page.tags for page in found for tag in _SENSOR_TAGS):
        return True
    largest = max(found, key=_area)
    return _is_marked_reduced(largest) and any(_area(inner) > _area(largest) for inner in nested)


def _subdirectories(page: Page) -> list[Page]:
    if not page.subifds:
        return []
    try:
        return [inner for inner in page.pages or () if isinstance(inner, Page)]
    except Exception:  # ignore damaged ones, because the page itself may be readable
        return []


def _is_marked_reduced(page: Page) -> bool:
    subfile_type = page.tags.valueof(_SUBFILE, 0)
    old = page.tags.valueof(_OLD_SUBFILE, 0)
    flags = int(subfile_type) if isinstance(subfile_type, int) else 0
    return bool(flags & (_REDUCED | _MASK)) or (_SUBFILE not in page.tags and old == _OLD_REDUCED)


def _without_reduced_copies(full_size: list[Page], preview: Preview) -> list[Page]:
    """The directories that are not reduced copies of the largest one."""
    largest = max(full_size, key=_area)
    candidates = [page for page in full_size if _may_be_copy(page, largest)][:_MAX_COMPARED]
    if not candidates:
        return full_size
    whole = _grid(preview(largest))
    copies = {page.offset for page in candidates if _correlation(_grid(preview(page)), whole) > _MIN_CORRELATION}
    return [page for page in full_size if page.offset not in copies]


def _may_be_copy(page: Page, largest: Page) -> bool:
    """Whether it is at most half as wide and high, with the same aspect ratio to a pixel."""
    scale = page.imagewidth / largest.imagewidth
    return scale <= 0.5 and abs(page.imagelength - scale * largest.imagelength) <= 1 + scale


def _area(page: Page) -> int:
    return int(page.imagewidth) * int(page.imagelength)


def _grid(grey: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The image averaged to (_GRID, _GRID), minus its mean."""
    rows, columns = (np.linspace(0, side, _GRID + 1).astype(int)[:-1] for side in grey.shape)
    sums = np.add.reduceat(np.add.reduceat(grey.astype(np.float64), rows, axis=0), columns, axis=1)
    counts = np.outer(
        *(np.diff([*edges, side]).clip(1) for edges, side in zip((rows, columns), grey.shape, strict=True))
    )
    means = sums / counts
    centered: NDArray[np.float64] = means - means.mean()
    return centered


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / size if size > 0 else 0.0
