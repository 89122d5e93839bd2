"""TIFFs of several pages: copies with all of them, each colored or as it is, and the scans back out of such copies."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import IO

from colorize.imaging.formats.codec import small_grey
from colorize.imaging.formats.decoded_image import Color, DecodedImage, Pixels, SmallGrey
from colorize.imaging.formats.encoded import Encoded
from colorize.imaging.formats.formats import ImageInfo, check_pixels
from colorize.imaging.formats.metadata import Origin, Provenance, Restored, read_origin
from colorize.imaging.formats.tiff import TiffWriter
from colorize.imaging.formats.tiff_pages import is_tiff
from colorize.imaging.formats.tiff_reader import OtherPage, TiffPage, require_all, tiff_pages

Paint = Callable[[int, DecodedImage], tuple[DecodedImage, Color]]


def decode_small_pages(data: Encoded, area: int, *, max_pixels: int) -> dict[int, SmallGrey]:
    """`decode_small` of the pages of a TIFF, counted from 0, but for those of kinds that are not colored.

    Raises:
        ImageDecodeError: a page is damaged, or has more than `max_pixels`.
    """
    with tiff_pages(data) as found:
        require_all(found)
        pages = {number: page for number, page in enumerate(found) if isinstance(page, TiffPage)}
        for page in pages.values():
            check_pixels(page.info, max_pixels)
        return {number: small_grey(page, area) for number, page in pages.items()}


def has_pages(info: ImageInfo) -> bool:
    """Whether the file has pages beyond the first that a copy can have too."""
    return info.format == "TIFF" and info.frames > 1


def encode_pages_into(
    out: IO[bytes], data: Encoded, colored: Collection[int], paint: Paint, provenance: Provenance, *, max_pixels: int
) -> bool:
    """Write all pages of a TIFF into an empty seekable file; returns whether the luminance of all is exact.

    Args:
        out: the file.
        data: the encoded source.
        colored: which pages are, counted from 0; the others are copied as they are.
        paint: makes the colors of a page from its number and its image, which may come back changed.
        provenance: what each colored page says about itself.
        max_pixels: pages with more are refused.

    Raises:
        ImageDecodeError: a page cannot be read, or is too large.
    """
    exact = True
    with tiff_pages(data) as found:
        require_all(found)
        writer = TiffWriter(out, data)
        for number, page in enumerate(found):
            if number not in colored or isinstance(page, OtherPage):
                page.copy_into(writer)
                continue
            check_pixels(page.info, max_pixels)
            image, color = paint(number, page.image())
            writer.add(_pixels(color), image, provenance.of(image.info.mode, image.luma_exact))
            exact = exact and image.luma_exact
        writer.close()
    return exact


def page_origins(data: Encoded) -> list[Origin | None]:
    """What each page of a TIFF says about its making, if it is a colored copy; of other formats nothing."""
    if not is_tiff(data):
        return []
    with tiff_pages(data) as found:
        return [read_origin(page.xmp) if isinstance(page, TiffPage) else None for page in found]


def encode_grey_pages_into(out: IO[bytes], data: Encoded) -> None:
    """Write the scans of a copy's colored pages, and its other pages as they are, into an empty seekable file.

    Of a file that is not known to be a copy the luminance of all pages is written.
    """
    with tiff_pages(data) as found:
        require_all(found)
        copied = {page.offset for page in found if isinstance(page, TiffPage) and read_origin(page.xmp) is None}
        if len(copied) == len(found):
            copied = set()
        writer = TiffWriter(out, data)
        for page in found:
            if isinstance(page, OtherPage) or page.offset in copied:
                page.copy_into(writer)
            else:
                image = page.image()
                writer.add(image.luma, image, Restored())
        writer.close()


def _pixels(color: Color) -> Pixels:
    assert not isinstance(color, tuple)  # chroma planes are of JPEG alone
    return color
