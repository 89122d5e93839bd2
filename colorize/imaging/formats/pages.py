"""TIFFs with several pages: copies with colored and unchanged pages, and restoring the scans from them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import IO

from colorize.imaging.formats.codec import small_grey
from colorize.imaging.formats.decoded_image import Color, DecodedImage, Pixels, SmallGrey
from colorize.imaging.formats.encoded import Encoded
from colorize.imaging.formats.formats import ImageInfo, check_pixels
from colorize.imaging.formats.metadata import Origin, Provenance, ProvenanceRemoval, read_origin
from colorize.imaging.formats.tiff import TiffWriter
from colorize.imaging.formats.tiff_pages import is_tiff
from colorize.imaging.formats.tiff_reader import TiffPage, UnsupportedPage, require_all, tiff_pages

ColorPage = Callable[[int, DecodedImage], tuple[DecodedImage, Color]]


def decode_small_pages(data: Encoded, area: int, *, max_pixels: int) -> dict[int, SmallGrey]:
    """`decode_small` for the pages of a TIFF, by 0-based number, without unsupported pages.

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
    """Whether the file has several pages that are kept in its copy."""
    return info.format == "TIFF" and info.frames > 1


def encode_pages_into(
    out: IO[bytes],
    data: Encoded,
    colored: Collection[int],
    color_page: ColorPage,
    provenance: Provenance,
    *,
    max_pixels: int,
) -> bool:
    """Writes all pages of a TIFF to an empty seekable file; returns whether the luminance of all is exact.

    Args:
        out: the file.
        data: the encoded source.
        colored: 0-based numbers of the pages to color; the others are copied.
        paint: returns the image and the color of a page, for its number and image.
        provenance: for the metadata of each colored page.
        max_pixels: larger pages are refused.

    Raises:
        ImageDecodeError: a page cannot be read, or is too large.
    """
    exact = True
    with tiff_pages(data) as found:
        require_all(found)
        writer = TiffWriter(out, data)
        for number, page in enumerate(found):
            if number not in colored or isinstance(page, UnsupportedPage):
                page.copy_into(writer)
                continue
            check_pixels(page.info, max_pixels)
            image, color = color_page(number, page.image())
            writer.add(_pixels(color), image, provenance.for_image(image.info.mode, image.luma_exact))
            exact = exact and image.luma_exact
        writer.close()
    return exact


def page_origins(data: Encoded) -> list[Origin | None]:
    """The origin of each page of a TIFF, None for pages that are not colored copies; [] for other formats."""
    if not is_tiff(data):
        return []
    with tiff_pages(data) as found:
        return [read_origin(page.xmp) if isinstance(page, TiffPage) else None for page in found]


def encode_grey_pages_into(out: IO[bytes], data: Encoded) -> None:
    """Restores the scans of a copy's colored pages and copies its other pages to an empty seekable file.

    For a file that is not known to be a copy, the luminance of all pages is written.
    """
    with tiff_pages(data) as found:
        require_all(found)
        copied = {page.offset for page in found if isinstance(page, TiffPage) and read_origin(page.xmp) is None}
        if len(copied) == len(found):
            copied = set()
        writer = TiffWriter(out, data)
        for page in found:
            if isinstance(page, UnsupportedPage) or page.offset in copied:
                page.copy_into(writer)
            else:
                image = page.image()
                writer.add(image.luma, image, ProvenanceRemoval())
        writer.close()


def _pixels(color: Color) -> Pixels:
    assert not isinstance(color, tuple)  # chroma planes are for JPEG only
    return color
