"""Detects JPEG files that lack only their end marker.

A decoder cannot distinguish a file without its last two bytes from one without half of its image, because it fills in
missing data. Here, different filler bytes are appended: if image data is missing, they are decoded as such and the
results differ.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import JpegImagePlugin

from colorize.imaging.formats.encoded import Encoded, whole
from colorize.imaging.formats.errors import ImageDecodeError
from colorize.imaging.formats.jpeg_stream import EOI, SOF2, SOI, Scan, scans_of_file

_FILLERS = (b"", b"\x5a\xa5\x3c\x0f\x17" * 40, b"\x00" * 200)  # without FF, so without markers


def completed(data: Encoded, error: ImageDecodeError) -> bytes | None:
    """The file with its end marker, if only that was missing when the decoder raised `error`; else None."""
    is_cut = error.code == "truncated" and data[: len(SOI)] == SOI
    return with_end_marker(whole(data)) if is_cut else None


def with_end_marker(data: bytes) -> bytes | None:
    """The file with its end marker, if only that is missing; else None."""
    tail = data.rstrip(b"\xff")  # half of the marker may be present
    if not _has_all_scans(tail):
        return None
    try:
        images = [_decoded(tail + filler + EOI) for filler in _FILLERS]
    except (OSError, SyntaxError, ValueError):
        return None
    same = all(np.array_equal(images[0], other) for other in images[1:])
    return tail + EOI if same else None


def _decoded(data: bytes) -> NDArray[np.uint8]:
    with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as image:
        return np.asarray(image)


def _has_all_scans(data: bytes) -> bool:
    """Whether every component, and in progressive files every bit of every coefficient, has a scan."""
    try:
        return _is_complete(*scans_of_file(data))
    except (IndexError, ValueError):  # truncated segments
        return False


def _is_complete(marker: int, frame: bytes, scans: list[Scan]) -> bool:
    components = set(frame[6 : 6 + 3 * frame[5] : 3])
    if marker != SOF2:
        return components == {c for scan in scans for c in scan.components}
    last = {(c, k): low for scan in scans for c in scan.components for k, low in _refined(scan)}
    return all(last.get((c, k)) == 0 for c in components for k in range(64))


def _refined(scan: Scan) -> list[tuple[int, int]]:
    """The coefficients of a progressive scan, with the lowest bit that it has of them."""
    first, end, bits = scan.header[-3:]
    return [(k, bits & 15) for k in range(first, min(end, 63) + 1)]
