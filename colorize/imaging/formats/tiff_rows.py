"""Large plain TIFFs, decoded strip by strip (or by rows of tiles), so that memory does not grow with the picture.

Plain are grey and RGB samples of 8 or 16 bits, alpha included, interleaved, in the common lossless compressions. All
others are decoded whole, by Pillow or imagecodecs (`codec`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import tifffile
from numpy.typing import NDArray

from colorize.imaging.formats.encoded import Encoded, opened
from colorize.imaging.formats.formats import ImageInfo, decode_errors
from colorize.imaging.formats.picture import Plane, Rows

LARGE = 1 << 24  # pixels: smaller pictures are decoded whole, which is faster
_NONE = 1
_COMPRESSIONS = (_NONE, 5, 8, 32773, 32946, 50000)  # LZW, Deflate (two numbers), PackBits, Zstandard
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_ASSOCIATED, _UNASSOCIATED = 1, 2


def tiff_rows(data: Encoded, info: ImageInfo) -> Rows | None:
    """The samples (H, W, channels) of a large plain TIFF as they are stored, black at 0; None for all others."""
    if info.format != "TIFF" or info.width * info.height < LARGE:
        return None
    with decode_errors(data, "TIFF"), opened(data) as file, tifffile.TiffFile(file) as tiff:
        page = tiff.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        if (page.imagewidth, page.imagelength) != (info.width, info.height) or not _is_plain(page):
            return None
        page.decode  # noqa: B018  # made while the file is open, and kept
        bands = _Bands(data, page)
    return Rows((info.height, info.width, page.samplesperpixel), np.dtype(f"u{info.bits // 8}"), bands.rows)


def _is_plain(page: tifffile.TiffPage) -> bool:
    stored = (
        page.bitspersample in (8, 16)
        and page.sampleformat == 1
        and page.planarconfig == 1
        and page.fillorder == 1
        and page.imagedepth == 1
        and page.compression in _COMPRESSIONS
        and page.predictor in ((1,) if page.compression == _NONE else (1, 2))
    )
    extra = (_UNASSOCIATED,) if page.bitspersample == 8 else (_ASSOCIATED, _UNASSOCIATED)
    alpha = len(page.extrasamples) == 1 and page.extrasamples[0] in extra
    kinds = {(_WHITE_IS_ZERO, 1), (_BLACK_IS_ZERO, 1), (_RGB, 3)}
    kinds |= {(_BLACK_IS_ZERO, 2), (_RGB, 4)} if alpha else set()
    return bool(stored and (page.photometric, page.samplesperpixel) in kinds)


@dataclass
class _Bands:
    """A page's strips, or rows of tiles; the last one that was decoded is kept, since readers go on where they were."""

    data: Encoded
    page: tifffile.TiffPage
    last: tuple[int, Plane] = field(default=(-1, np.empty((0, 0, 0), np.uint8)))

    @property
    def height(self) -> int:
        """Rows of every band but the last."""
        page = self.page
        return min(page.tilelength if page.is_tiled else page.rowsperstrip, page.imagelength)

    def rows(self, rows: slice) -> Plane:
        with decode_errors(self.data, "TIFF"):
            parts = list(self._parts(rows))
            samples = parts[0] if len(parts) == 1 else np.concatenate(parts)
            samples = np.invert(samples) if self.page.photometric == _WHITE_IS_ZERO else samples
            return unassociated(samples) if _ASSOCIATED in self.page.extrasamples else samples

    def _parts(self, rows: slice) -> Iterator[Plane]:
        for number in range(rows.start // self.height, math.ceil(rows.stop / self.height)):
            top = number * self.height
            within = slice(max(rows.start - top, 0), min(rows.stop - top, self.height))
            yield self._stored(number, within) if self._is_raw else self._band(number)[within]

    @property
    def _is_raw(self) -> bool:
        return self.page.compression == _NONE and not self.page.is_tiled

    def _stored(self, number: int, rows: slice) -> Plane:
        """Rows of an uncompressed strip, which may be the whole picture."""
        page, kind = self.page, np.dtype(f"{self.page.parent.byteorder}u{self.page.bitspersample // 8}")
        stride = page.imagewidth * page.samplesperpixel * kind.itemsize
        start, size = page.dataoffsets[number], page.databytecounts[number]
        if rows.stop * stride > size:
            raise EOFError("a strip ends early")
        stored = np.frombuffer(self._bytes(start + rows.start * stride, (rows.stop - rows.start) * stride), kind)
        return stored.reshape(-1, page.imagewidth, page.samplesperpixel).astype(kind.newbyteorder("="), copy=False)

    def _band(self, number: int) -> Plane:
        if self.last[0] != number:
            page = self.page
            across = math.ceil(page.imagewidth / page.tilewidth) if page.is_tiled else 1
            segments = [self._segment(number * across + i) for i in range(across)]
            band = segments[0] if across == 1 else np.concatenate(segments, axis=1)
            self.last = number, band[:, : page.imagewidth]
        return self.last[1]

    def _segment(self, index: int) -> Plane:
        """A strip, or a tile with what it holds beyond the picture's edge."""
        page = self.page
        encoded = self._bytes(page.dataoffsets[index], page.databytecounts[index])
        decoded, _, (_, height, width, _) = page.decode(encoded, index)
        if decoded is None or decoded.shape[1:3] != (height, width):
            raise EOFError("a strip or tile ends early")
        plane: Plane = decoded[0]
        return plane

    def _bytes(self, start: int, size: int) -> bytes:
        found = self.data[start : start + size]
        if len(found) < size or not size:
            raise EOFError("not enough data")
        return found


def unassociated(pixels: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Undo the multiplication of 16-bit color with alpha (TIFF 6.0, ExtraSamples 1)."""
    alpha = np.maximum(pixels[..., -1:], 1).astype(np.float64)
    color = np.minimum(np.rint(pixels[..., :-1] * (65535 / alpha)), 65535).astype(np.uint16)
    return np.concatenate((color, pixels[..., -1:]), axis=-1)
