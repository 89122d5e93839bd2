"""Decodes the samples of a TIFF page strip by strip (or by rows of tiles), with bounded memory.

tifffile finds the strips and tiles, imagecodecs decodes them: all compressions, planar and interleaved, samples of 2 to
16 bits, all byte and bit orders. The few layouts that need libtiff (`needs_libtiff`) are decoded as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import imagecodecs
import numpy as np
import tifffile

from colorize.imaging.formats.decoded_image import Plane, Rows
from colorize.imaging.formats.encoded import Encoded, whole
from colorize.imaging.formats.errors import ImageDecodeError
from colorize.imaging.formats.formats import decode_errors

LARGE = 1 << 24  # pixels: smaller images are decoded as a whole, so that nothing is decoded twice
_NONE = 1
_OLD_JPEG = 6  # TIFF 6.0 (1992)
_LIBTIFF_COMPRESSIONS = (2, 3, 4, _OLD_JPEG, 32766, 32809)  # fax, NeXT, ThunderScan
_JPEG = (_OLD_JPEG, 7, 34892, 33007)
_WHITE_IS_ZERO, _YCBCR = 0, 6


def stored_rows(data: Encoded, page: tifffile.TiffPage) -> Rows:
    """The stored samples (H, W, samples per pixel) of a page: uint8 up to 8 bits, else uint16.

    Pages that need libtiff are decoded to 8-bit RGB or grey.

    Raises:
        ImageDecodeError: `unsupported` if samples are not unsigned integers of up to 16 bits; when rows are read,
            `truncated` or `unreadable`.
    """
    require_integers(page)
    if needs_libtiff(page):
        samples = _by_libtiff(data, page)
        return Rows(samples.shape, samples.dtype, lambda rows: samples[rows])
    with decode_errors(data, "TIFF"):
        page.decode  # noqa: B018  # a cached property that needs the open file
        bands = _Bands(data, page, page.jpegtables, page.jpegheader if page.compression in _JPEG else None)
    dtype = np.dtype(np.uint8 if page.bitspersample <= 8 else np.uint16)
    shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
    return Rows(shape, dtype, bands.rows)


def require_integers(page: tifffile.TiffPage) -> None:
    """Raises ImageDecodeError, `unsupported`, if samples have no defined white, or differ in kind or depth."""
    if not isinstance(page.photometric, int):
        raise ImageDecodeError(
            "unsupported", "TIFF with several photometric interpretations in one page: its directory is damaged"
        )
    bits, format = page.bitspersample, int(page.sampleformat)
    if not isinstance(bits, int):
        raise ImageDecodeError(
            "unsupported", f"TIFF with samples of different depths ({bits}): convert it to 8 bits first"
        )
    if format == 3 or bits > 16 or format not in (1, 4):
        kind = {2: "signed integer", 3: "float"}.get(format, f"{bits}-bit integer")
        raise ImageDecodeError("unsupported", f"TIFF with {kind} samples: convert it to 16 bits first")
    if page.imagedepth != 1:
        raise ImageDecodeError("unsupported", "TIFF with a volume: export it as pages first")


def needs_libtiff(page: tifffile.TiffPage) -> bool:
    """Whether only libtiff can decode the page."""
    subsampled = page.photometric == _YCBCR and page.compression not in _JPEG and page.is_subsampled
    predicted = page.compression == _NONE and page.predictor != 1  # a predictor without compression is ignored
    return subsampled or predicted or page.bitspersample == 1 or page.compression in _LIBTIFF_COMPRESSIONS


def _by_libtiff(data: Encoded, page: tifffile.TiffPage) -> Plane:
    """A whole page, (H, W, samples)."""
    with decode_errors(data, "TIFF"):
        _require_segments(data, page)
        samples = _bilevel(data, page) if page.bitspersample == 1 else _decoded(data, page)
        if page.planarconfig == 2 and samples.ndim == 3 and page.photometric != _YCBCR:
            samples = np.moveaxis(samples, 0, -1)
        return samples.reshape(page.imagelength, page.imagewidth, -1)


def _require_segments(data: Encoded, page: tifffile.TiffPage) -> None:
    """Raises EOFError if strips or tiles are missing, which libtiff would decode as black without an error."""
    if page.compression == _OLD_JPEG:  # a single stream, whose strips need not be listed
        return
    length, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    if not length or not width:
        raise EOFError("not enough data: tiles without a size")
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    expected = planes * math.ceil(page.imagelength / length) * math.ceil(page.imagewidth / width)
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if len(segments) < expected or not all(0 < size <= len(data) - start for start, size in segments[:expected]):
        raise EOFError("not enough data: strips or tiles are missing")


def _decoded(data: Encoded, page: tifffile.TiffPage) -> Plane:
    is_ycbcr = page.photometric == _YCBCR
    samples = np.asarray(imagecodecs.tiff_decode(whole(data), index=page.index, asrgb=is_ycbcr))
    return samples[..., :3] if is_ycbcr else samples


def _bilevel(data: Encoded, page: tifffile.TiffPage) -> Plane:
    """The stored values 0 and 1. Falls back to libtiff's RGBA interface, which tolerates more errors."""
    try:
        return np.asarray(imagecodecs.tiff_decode(whole(data), index=page.index)).astype(np.uint8)
    except imagecodecs.TiffError:
        grey = np.asarray(imagecodecs.tiff_decode(whole(data), index=page.index, asrgb=True))[..., 0]
        return ((grey < 128) if page.photometric == _WHITE_IS_ZERO else (grey >= 128)).astype(np.uint8)


@dataclass
class _Bands:
    """A page's strips or rows of tiles; the last decoded one is cached, because rows are read in order."""

    data: Encoded
    page: tifffile.TiffPage
    tables: bytes | None  # of JPEG
    header: bytes | None
    last: tuple[int, Plane] = field(default=(-1, np.empty((0, 0, 0), np.uint8)))

    @property
    def height(self) -> int:
        """Rows per band, except for the last."""
        page = self.page
        return max(1, min(page.tilelength if page.is_tiled else page.rowsperstrip, page.imagelength))

    def rows(self, rows: slice) -> Plane:
        with decode_errors(self.data, "TIFF"):
            parts = list(self._parts(rows))
            return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _parts(self, rows: slice) -> Iterator[Plane]:
        for number in range(rows.start // self.height, math.ceil(rows.stop / self.height)):
            top = number * self.height
            within = slice(max(rows.start - top, 0), min(rows.stop - top, self.height))
            yield self._uncompressed(number, within) if self._is_raw else self._band(number)[within]

    @property
    def _is_raw(self) -> bool:
        page = self.page
        plain = page.bitspersample in (8, 16) and page.planarconfig == 1 and page.fillorder == 1
        return plain and page.compression == _NONE and not page.is_tiled

    def _uncompressed(self, number: int, rows: slice) -> Plane:
        """Rows of an uncompressed strip, which may be the whole image, so only these are read."""
        page, dtype = self.page, np.dtype(f"{self.page.parent.byteorder}u{self.page.bitspersample // 8}")
        stride = page.imagewidth * page.samplesperpixel * dtype.itemsize
        start, size = page.dataoffsets[number], page.databytecounts[number]
        if rows.stop * stride > size:
            raise EOFError("a strip is truncated")
        stored = np.frombuffer(self._bytes(start + rows.start * stride, (rows.stop - rows.start) * stride), dtype)
        return stored.reshape(-1, page.imagewidth, page.samplesperpixel).astype(dtype.newbyteorder("="), copy=False)

    def _band(self, number: int) -> Plane:
        if self.last[0] != number:
            page = self.page
            band_count = math.ceil(page.imagelength / self.height)
            plane_count = page.samplesperpixel if page.planarconfig == 2 else 1
            planes = [self._row_of_tiles(plane * band_count + number) for plane in range(plane_count)]
            band = planes[0] if plane_count == 1 else np.concatenate(planes, axis=2)
            self.last = number, band
        return self.last[1]

    def _row_of_tiles(self, band: int) -> Plane:
        """A row of tiles or a strip, of one plane if planar."""
        page = self.page
        across = math.ceil(page.imagewidth / page.tilewidth) if page.is_tiled else 1
        segments = [self._segment(band * across + i) for i in range(across)]
        joined = segments[0] if across == 1 else np.concatenate(segments, axis=1)
        return joined[:, : page.imagewidth]

    def _segment(self, index: int) -> Plane:
        """A strip, or a tile including its padding."""
        page = self.page
        if index >= len(page.dataoffsets):
            raise EOFError("not enough data: strips or tiles are missing")
        encoded = self._bytes(page.dataoffsets[index], page.databytecounts[index])
        options = {"jpegtables": self.tables, "jpegheader": self.header} if page.compression in _JPEG else {}
        decoded, _, (_, height, width, samples) = page.decode(encoded, index, _fullsize=page.is_tiled, **options)
        if decoded is None or decoded.shape != (1, height, width, samples):
            raise EOFError("a strip or tile is truncated")
        plane: Plane = decoded[0]
        if plane.dtype.kind not in "bu" or plane.dtype.itemsize > 2:
            raise ImageDecodeError("unsupported", f"TIFF with {plane.dtype} samples: convert it to 16 bits first")
        return plane.astype(np.uint8) if plane.dtype == bool else plane

    def _bytes(self, start: int, size: int) -> bytes:
        found = self.data[start : start + size]
        if len(found) < size or not size:
            raise EOFError("not enough data")
        return found
