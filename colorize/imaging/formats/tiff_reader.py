"""Reads the pages of a TIFF: headers, small copies for the network, and planes at full size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from colorize.imaging.formats import tiff_rows
from colorize.imaging.formats.decoded_image import DecodedImage, Pixels
from colorize.imaging.formats.encoded import Encoded
from colorize.imaging.formats.errors import ImageDecodeError
from colorize.imaging.formats.formats import ImageInfo, decode_errors
from colorize.imaging.formats.metadata import Metadata, ProvenanceRemoval
from colorize.imaging.formats.samples import reduced
from colorize.imaging.formats.tiff import TiffWriter
from colorize.imaging.formats.tiff_pages import MAX_PAGES, Page, directories, pages
from colorize.imaging.formats.tiff_samples import Interpretation, interpretation

_ORIENTATION, _XMP = 274, 700
_OLD_JPEG = 6
_PREVIEW = 1 << 14  # pixels of the copies for comparing pages


@dataclass(frozen=True, slots=True)
class TiffPage:
    """A page of a TIFF; its pixels are not decoded yet."""

    data: Encoded
    page: Page
    interpretation: Interpretation
    info: ImageInfo

    def is_large(self) -> bool:
        """Whether its rows are decoded each time they are read, instead of all at once."""
        return self.info.width * self.info.height >= tiff_rows.LARGE

    @property
    def offset(self) -> int:
        """The offset of its directory."""
        return int(self.page.offset)

    @property
    def xmp(self) -> bytes | None:
        """Its XMP packet."""
        return _bytes(self.page, _XMP)

    def small(self, area: int) -> Image.Image:
        """A small upright copy of about `area` pixels, L or RGB, box-filtered, without alpha."""
        with decode_errors(self.data, "TIFF"):
            width, height = self.info.width, self.info.height
            fraction = min(1.0, math.sqrt(area / (width * height)))
            factor = min(width // math.ceil(width * fraction), height // math.ceil(height * fraction))
            return reduced(self.interpretation.color(self._stored()), max(1, factor), self.info.orientation)

    def image(self) -> DecodedImage:
        """The page at full size."""
        with decode_errors(self.data, "TIFF"):
            stored = self._stored()
            planes = (
                self.interpretation.luminance(stored),
                self.interpretation.opacity(stored),
                self.interpretation.further(stored),
            )
            luma, alpha, further = (self._loaded(plane) for plane in planes)
            assert luma is not None
            metadata = Metadata(xmp=self.xmp)
            return DecodedImage(self.info, luma, alpha, True, metadata, self.data, further, self.page.offset)

    def copy_into(self, writer: TiffWriter) -> None:
        """Copies the page: its strips or tiles byte for byte, except for old-style JPEG, which is decoded."""
        page = self.page
        if page.compression == _OLD_JPEG or not page.dataoffsets:
            writer.add(self.interpretation.color(self._stored()), self.image(), ProvenanceRemoval())
        else:
            writer.copy(page.offset, page.dataoffsets, page.databytecounts, page.is_tiled)

    def _stored(self) -> Pixels:
        rows = tiff_rows.stored_rows(self.data, self.page)
        return rows if self.is_large() else np.asarray(rows)

    def _loaded(self, plane: Pixels | None) -> Pixels | None:
        return plane if plane is None or self.is_large() else np.asarray(plane)


@dataclass(frozen=True, slots=True)
class UnsupportedPage:
    """A page that can be copied, but not colored."""

    page: Page
    reason: ImageDecodeError

    def copy_into(self, writer: TiffWriter) -> None:
        """Copies the page."""
        writer.copy(self.page.offset, self.page.dataoffsets, self.page.databytecounts, self.page.is_tiled)


@contextmanager
def tiff_pages(data: Encoded) -> Iterator[list[TiffPage | UnsupportedPage]]:
    """The pages of a TIFF, while the file is open. The first one can be colored.

    Raises:
        ImageDecodeError: it is damaged, or its first page cannot be colored.
    """
    with directories(data) as (found, count):
        with decode_errors(data, "TIFF"):
            chosen = pages(found, lambda page: _preview(data, page))
            frames = len(chosen) if count <= MAX_PAGES else count
            result = [_page_or_unsupported(data, page, number, frames) for number, page in enumerate(chosen)]
        yield result


def require_all(found: Sequence[TiffPage | UnsupportedPage]) -> None:
    """Raises ImageDecodeError, `unsupported`, if a file has so many pages that only the first was read."""
    first = require_page(found, 0)
    if first.info.frames > len(found):
        raise ImageDecodeError(
            "unsupported",
            f"TIFF of {first.info.frames:,} pages, the limit is {MAX_PAGES:,}: split it, or set output.pages=first",
        )


@contextmanager
def tiff_page(data: Encoded, number: int = 0) -> Iterator[TiffPage]:
    """One page of a TIFF, while the file is open."""
    with tiff_pages(data) as found:
        yield require_page(found, number)


def require_page(found: Sequence[TiffPage | UnsupportedPage], number: int) -> TiffPage:
    """The page with this number. Raises ImageDecodeError if there is none, or if it cannot be colored."""
    if not 0 <= number < len(found):
        raise ImageDecodeError("unreadable", f"TIFF of {len(found)} pages has no page {number + 1}")
    page = found[number]
    if isinstance(page, UnsupportedPage):
        raise page.reason
    return page


def _page_or_unsupported(data: Encoded, page: Page, number: int, frames: int) -> TiffPage | UnsupportedPage:
    try:
        return _page(data, page, frames)
    except ImageDecodeError as error:
        if error.code != "unsupported" or not number or page.compression == _OLD_JPEG:
            raise
        return UnsupportedPage(page, error)


def _page(data: Encoded, page: Page, frames: int) -> TiffPage:
    tiff_rows.require_integers(page)
    samples = interpretation(page)
    orientation = page.tags.valueof(_ORIENTATION, 1)
    info = ImageInfo(
        format="TIFF",
        mode=samples.mode,
        width=int(page.imagewidth),
        height=int(page.imagelength),
        bits=samples.bits,
        orientation=int(orientation) if orientation in range(1, 9) else 1,
        frames=frames,
    )
    return TiffPage(data, page, samples, info)


def _preview(data: Encoded, page: Page) -> NDArray[np.uint8]:
    """A page's small grey image; a single black pixel, unlike any other page, if it cannot be decoded."""
    try:
        return np.asarray(_page(data, page, 1).small(_PREVIEW).convert("L"))
    except ImageDecodeError:
        return np.zeros((1, 1), np.uint8)


def _bytes(page: Page, tag: int) -> bytes | None:
    value = page.tags.valueof(tag, None)
    return value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else None
