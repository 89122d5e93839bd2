"""Decoding to luminance, encoding color, and encoding the luminance alone again."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import IO, TypeVar

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin, PsdImagePlugin

from colorize.imaging.formats import jp2, photoshop, png
from colorize.imaging.formats.bmp import write_bmp
from colorize.imaging.formats.decoded_image import Chroma, Color, DecodedImage, Header, Pixels, SmallGrey, half_shape
from colorize.imaging.formats.encoded import Encoded, whole
from colorize.imaging.formats.errors import ImageDecodeError
from colorize.imaging.formats.formats import ImageInfo, check_pixels, decode_errors, describe, open_image
from colorize.imaging.formats.jp2 import write_jp2
from colorize.imaging.formats.jpeg import has_luma_plane, write_grey_jpeg, write_jpeg
from colorize.imaging.formats.jpeg_end import completed
from colorize.imaging.formats.metadata import Metadata, Provenance, Restored, Words, read_metadata, read_origin
from colorize.imaging.formats.orientation import orient
from colorize.imaging.formats.pillow_reader import UNKNOWN_ROUNDING, chroma_rounding, halved_luma, planes, small_copies
from colorize.imaging.formats.png import write_png
from colorize.imaging.formats.samples import joined, upright
from colorize.imaging.formats.tiff import TiffWriter
from colorize.imaging.formats.tiff_pages import is_tiff
from colorize.imaging.formats.tiff_reader import TiffPage, require_page, tiff_page, tiff_pages
from colorize.imaging.formats.webp import write_webp
from colorize.imaging.tone import ChromaRounding, Toning
from colorize.imaging.triage import toning_of, triage

R = TypeVar("R", SmallGrey, DecodedImage)


def read_info(data: Encoded) -> ImageInfo:
    """Read an image's header; no pixels are decoded.

    Raises:
        ImageDecodeError: the file is no image that this program reads.
    """
    if is_tiff(data):
        with tiff_page(data) as page:
            return page.info
    with open_image(data) as image:
        return describe(image, data)


def decode_small(data: Encoded, area: int, *, max_pixels: int, page: int = 0) -> SmallGrey:
    """Decode a small upright grey copy of about `area` pixels (1 to 4 times that; never enlarged).

    JPEGs are decoded at a fraction of their size, so a copy costs a few milliseconds. 16-bit samples are mapped
    by their type's full range (the upper byte). `page` counts from 0, and is of TIFF only.

    Raises:
        ImageDecodeError: the file is no readable image, or has more than `max_pixels`.
    """
    if is_tiff(data):
        with tiff_page(data, page) as found:
            check_pixels(found.info, max_pixels)
            return small_grey(found, area)
    return _mended(data, lambda whole_data: _decode_small(whole_data, area, max_pixels))


def decode_thumbnail(data: Encoded, area: int, *, max_pixels: int) -> Image.Image:
    """Decode a small upright RGB copy, for people, of about `area` pixels, as `decode_small` does.

    `max_pixels` is the limit of images that must be decoded whole: no JPEGs, nor TIFFs that are read by rows.

    Raises:
        ImageDecodeError: the file is no readable image, or too large a one.
    """
    if is_tiff(data):
        with tiff_page(data) as page:
            if not page.is_large():
                check_pixels(page.info, max_pixels)
            return page.small(area).convert("RGB")
    with open_image(data) as image:
        info = describe(image, data)
        if not isinstance(image, JpegImagePlugin.JpegImageFile):
            check_pixels(info, max_pixels)
        with decode_errors(data, info.format):
            grey, color = small_copies(image, area)
            return upright(np.asarray((color or grey).convert("RGB")), info.orientation)


def decode(data: Encoded, *, max_pixels: int, page: int = 0, halved: bool = False) -> DecodedImage:
    """Decode an image's luminance (and alpha) at full size, in the layout of the file.

    `halved` asks for the luma of a JPEG, where its copy carries that over, at half its size each way, rounded up:
    what chroma of 4:2:0 needs, for half of the time (libjpeg-turbo's inverse DCT of 4 x 4).

    8-bit luma is Pillow's `convert("L")`, for JPEGs with a luma plane that plane; 16-bit luma is
    round(0.299 R + 0.587 G + 0.114 B). `page` counts from 0, and is of TIFF only.

    Raises:
        ImageDecodeError: the file is no readable image, or has more than `max_pixels`.
    """
    if is_tiff(data):
        with tiff_page(data, page) as found:
            check_pixels(found.info, max_pixels)
            return found.image()
    return _mended(data, lambda whole_data: _decode(whole_data, max_pixels, halved))


def _mended(data: Encoded, read: Callable[[Encoded], R]) -> R:
    """What `read` makes of a file; of a JPEG that lacks nothing but its end mark, with the mark and a note."""
    try:
        return read(data)
    except ImageDecodeError as error:
        complete = completed(data, error)
        if complete is None:
            raise
        found = read(complete)
        return replace(found, info=replace(found.info, note="its end mark is missing; all of its image is there"))


def _decode_small(data: Encoded, area: int, max_pixels: int) -> SmallGrey:
    with open_image(data) as image:
        info = describe(image, data)
        check_pixels(info, max_pixels)
        with decode_errors(data, info.format):
            grey, color = small_copies(image, area)
            small = _triaged(info, grey, color, chroma_rounding(image))
    return replace(small, luma=np.ascontiguousarray(orient(small.luma, info.orientation)))


def _decode(data: Encoded, max_pixels: int, halved: bool) -> DecodedImage:
    with open_image(data) as image:
        info = describe(image, data)
        check_pixels(info, max_pixels)
        with decode_errors(data, info.format):
            luma: Pixels
            if halved and isinstance(image, JpegImagePlugin.JpegImageFile) and has_luma_plane(image):
                luma, alpha, expected = halved_luma(image), None, half_shape(info.height, info.width)
            else:
                (luma, alpha), expected = planes(image, info, data), (info.height, info.width)
            if luma.shape != expected:
                raise ImageDecodeError("unreadable", f"decoded to {luma.shape}, by the header it has {expected}")
            said = _header(image, info, data)
            return DecodedImage(info, luma, alpha, said.luma_exact, said.metadata, data)


def decode_header(data: Encoded) -> Header:
    """What `decode` would say of an image besides its pixels, of which none is decoded.

    Metadata that stands behind the pixels is seen of a PNG only. Of a TIFF's pages the first counts that is a colored
    copy, if there is one.

    Raises:
        ImageDecodeError: the file is no readable image.
    """
    if is_tiff(data):
        with tiff_pages(data) as pages:
            first = require_page(pages, 0)
            packets = [page.xmp for page in pages if isinstance(page, TiffPage)]
            xmp = next((xmp for xmp in packets if read_origin(xmp)), packets[0])
            return Header(first.info, True, Metadata(xmp=xmp))
    with open_image(data) as image:
        info = describe(image, data)
        with decode_errors(data, info.format):
            return _header(image, info, data)


def stored_pixels(data: Encoded) -> tuple[str, int, bool]:
    """Format, number of pixels and whether they are coded progressively, from as little of the file as possible.

    Raises:
        ImageDecodeError: as `read_info`.
    """
    if is_tiff(data):
        info = read_info(data)
        return info.format, info.width * info.height, False
    with open_image(data) as image:
        return image.format or "", image.width * image.height, bool(image.info.get("progressive"))


def encode(image: DecodedImage, color: Color, provenance: Provenance) -> bytes:
    """Encode the composed `color` of `image` (see `colorize.imaging.compose`) in its output format.

    Metadata is carried over, and `provenance` is added to it (`metadata` says where).
    """
    out = io.BytesIO()
    encode_into(out, image, color, provenance)
    return out.getvalue()


def encode_into(out: IO[bytes], image: DecodedImage, color: Color, provenance: Provenance) -> None:
    """`encode` into an empty seekable file. Of huge TIFF and PNG only a few rows are in memory at any time.

    Raises:
        ImageDecodeError: the source's pixels, which are decoded only now where it is huge, are damaged.
    """
    words = provenance.of(image.info.mode, image.luma_exact)
    if isinstance(color, Chroma):
        luma = None if image.luma_exact else np.asarray(image.luma, np.uint8)
        out.write(write_jpeg(whole(image.source), luma, color.cb, color.cr, words))
    else:
        _write_lossless(out, image, color, words)


def encode_grey(image: DecodedImage) -> bytes:
    """Encode a colored copy's luminance in its own format, without what was said about its color.

    From a JPEG only the chroma is taken out; WebP and BMP, which have no grey kind, get three equal channels.
    """
    out = io.BytesIO()
    encode_grey_into(out, image)
    return out.getvalue()


def encode_grey_into(out: IO[bytes], image: DecodedImage) -> None:
    """`encode_grey` into an empty seekable file, as `encode_into` does."""
    if image.info.output_format == "JPEG":
        out.write(write_grey_jpeg(whole(image.source), Restored()))
    else:
        _write_lossless(out, image, image.luma, Restored())


def _write_lossless(out: IO[bytes], image: DecodedImage, color: Pixels, words: Words) -> None:
    pixels = joined(color, image.alpha)
    match image.info.output_format:
        case "TIFF":
            writer = TiffWriter(out, image.source)
            writer.add(color, image, words)
            writer.close()
        case "JPEG2000":
            out.write(write_jp2(np.asarray(pixels), whole(image.source), words))
        case "WEBP":
            out.write(write_webp(np.asarray(pixels), image.metadata, words))
        case "BMP":
            write_bmp(out, np.asarray(pixels), image.metadata)
        case _:
            write_png(out, pixels, image.source, image.metadata, words)


def _header(image: ImageFile.ImageFile, info: ImageInfo, data: Encoded) -> Header:
    exact = not isinstance(image, JpegImagePlugin.JpegImageFile) or has_luma_plane(image)
    metadata = read_metadata(image.info)
    if isinstance(image, PsdImagePlugin.PsdImageFile):
        metadata = replace(photoshop.metadata_of(image.resources), icc=metadata.icc)
    own = {"JPEG2000": jp2.read_xmp, "PNG": png.read_xmp}.get(info.format)
    if own:  # which Pillow leaves out, or may have left out
        metadata = replace(metadata, xmp=own(whole(data)))
    return Header(info, exact, metadata)


def small_grey(page: TiffPage, area: int) -> SmallGrey:
    """`decode_small` of an opened page."""
    small = page.small(area)
    return _triaged(page.info, small.convert("L"), small if small.mode == "RGB" else None, UNKNOWN_ROUNDING)


def _triaged(info: ImageInfo, grey: Image.Image, color: Image.Image | None, rounding: ChromaRounding) -> SmallGrey:
    toned = toning_of(color, info.width * info.height, rounding) if color else Toning(0.0, 0.0)
    return SmallGrey(info, np.asarray(grey), toned.beyond, triage(grey, color, toned))
