"""Decoding to luminance, encoding color, and encoding the luminance only."""

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
from colorize.imaging.formats.jpeg import has_luma_plane, quantization_tables, write_grey_jpeg, write_jpeg
from colorize.imaging.formats.jpeg_end import completed
from colorize.imaging.formats.metadata import (
    Metadata,
    MetadataUpdate,
    Provenance,
    ProvenanceRemoval,
    read_metadata,
    read_origin,
)
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
        ImageDecodeError: the file is not a supported image.
    """
    if is_tiff(data):
        with tiff_page(data) as page:
            return page.info
    with open_image(data) as image:
        return describe(image, data)


def decode_small(data: Encoded, area: int, *, max_pixels: int, page: int = 0) -> SmallGrey:
    """Decode a small upright grey copy of about `area` pixels (1 to 4 times that; never upscaled).

    JPEGs are decoded at a fraction of their size, which takes a few milliseconds. 16-bit samples are reduced to their
    upper byte. `page` is the 0-based page of a TIFF.

    Raises:
        ImageDecodeError: the file is not a readable image, or has more than `max_pixels`.
    """
    if is_tiff(data):
        with tiff_page(data, page) as found:
            check_pixels(found.info, max_pixels)
            return small_grey(found, area)
    return _retry_with_end_marker(data, lambda whole_data: _decode_small(whole_data, area, max_pixels))


def decode_thumbnail(data: Encoded, area: int, *, max_pixels: int) -> Image.Image:
    """Like `decode_small`, but RGB, for display.

    `max_pixels` only applies to images that must be decoded at full size, unlike JPEGs and large TIFFs.

    Raises:
        ImageDecodeError: the file is not a readable image, or is too large.
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

    8-bit luma is Pillow's `convert("L")`, or the luma plane of a JPEG that has one; 16-bit luma is
    round(0.299 R + 0.587 G + 0.114 B).

    Args:
        data: the encoded image.
        max_pixels: larger images are refused.
        page: 0-based, for TIFF only.
        halved: decode the luma plane of a JPEG at half its size, rounded up, which is sufficient for 4:2:0 chroma and
            takes half of the time (libjpeg-turbo's 4 x 4 inverse DCT).

    Raises:
        ImageDecodeError: the file is not a readable image, or has more than `max_pixels`.
    """
    if is_tiff(data):
        with tiff_page(data, page) as found:
            check_pixels(found.info, max_pixels)
            return found.image()
    return _retry_with_end_marker(data, lambda whole_data: _decode(whole_data, max_pixels, halved))


def _retry_with_end_marker(data: Encoded, read: Callable[[Encoded], R]) -> R:
    """Calls `read`; if a JPEG only lacks its end marker, calls it again with the marker added, and adds a note."""
    try:
        return read(data)
    except ImageDecodeError as error:
        complete = completed(data, error)
        if complete is None:
            raise
        found = read(complete)
        return replace(found, info=replace(found.info, note="the end marker is missing, but the image is complete"))


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
                raise ImageDecodeError("unreadable", f"decoded to {luma.shape}, but its header says {expected}")
            header = _header(image, info, data)
            tables = quantization_tables(image) if isinstance(image, JpegImagePlugin.JpegImageFile) else None
            return DecodedImage(info, luma, alpha, header.luma_exact, header.metadata, data, tables=tables)


def decode_header(data: Encoded) -> Header:
    """Like `decode`, but without pixels.

    Metadata after the pixels is only read from PNGs. For a TIFF, the XMP is that of the first page which is a colored
    copy, if there is one.

    Raises:
        ImageDecodeError: the file is not a readable image.
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
    """Format, number of pixels, and whether it is progressive, without reading more of the file than necessary.

    Raises:
        ImageDecodeError: see `read_info`.
    """
    if is_tiff(data):
        info = read_info(data)
        return info.format, info.width * info.height, False
    with open_image(data) as image:
        return image.format or "", image.width * image.height, bool(image.info.get("progressive"))


def encode(image: DecodedImage, color: Color, provenance: Provenance) -> bytes:
    """Encode the composed `color` of `image` (see `colorize.imaging.compose`) in its output format.

    Metadata is copied, and `provenance` is added to it (see `metadata`).
    """
    out = io.BytesIO()
    encode_into(out, image, color, provenance)
    return out.getvalue()


def encode_into(out: IO[bytes], image: DecodedImage, color: Color, provenance: Provenance) -> None:
    """Like `encode`, but writes to an empty seekable file. Only a few rows of huge TIFFs and PNGs are in memory.

    Raises:
        ImageDecodeError: the pixels of a huge source, which are only decoded now, are damaged.
    """
    update = provenance.for_image(image.info.mode, image.luma_exact)
    if isinstance(color, Chroma):
        assert image.tables is not None  # only JPEGs have chroma planes
        luma = None if image.luma_exact else np.asarray(image.luma, np.uint8)
        out.write(write_jpeg(whole(image.source), image.tables, luma, color.cb, color.cr, update))
    else:
        _write_lossless(out, image, color, update)


def encode_grey(image: DecodedImage) -> bytes:
    """Encode a colored copy's luminance in its format, without the metadata about its color.

    A JPEG only loses its chroma; WebP and BMP, which have no grey, get three equal channels.
    """
    out = io.BytesIO()
    encode_grey_into(out, image)
    return out.getvalue()


def encode_grey_into(out: IO[bytes], image: DecodedImage) -> None:
    """Like `encode_grey`, but writes to an empty seekable file; see `encode_into`."""
    if image.info.output_format == "JPEG":
        out.write(write_grey_jpeg(whole(image.source), ProvenanceRemoval()))
    else:
        _write_lossless(out, image, image.luma, ProvenanceRemoval())


def _write_lossless(out: IO[bytes], image: DecodedImage, color: Pixels, update: MetadataUpdate) -> None:
    pixels = joined(color, image.alpha)
    match image.info.output_format:
        case "TIFF":
            writer = TiffWriter(out, image.source)
            writer.add(color, image, update)
            writer.close()
        case "JPEG2000":
            out.write(write_jp2(np.asarray(pixels), whole(image.source), update))
        case "WEBP":
            out.write(write_webp(np.asarray(pixels), image.metadata, update))
        case "BMP":
            write_bmp(out, np.asarray(pixels), image.metadata)
        case _:
            write_png(out, pixels, image.source, image.metadata, update)


def _header(image: ImageFile.ImageFile, info: ImageInfo, data: Encoded) -> Header:
    exact = not isinstance(image, JpegImagePlugin.JpegImageFile) or has_luma_plane(image)
    metadata = read_metadata(image.info)
    if isinstance(image, PsdImagePlugin.PsdImageFile):
        metadata = replace(photoshop.metadata_of(image.resources), icc=metadata.icc)
    own = {"JPEG2000": jp2.read_xmp, "PNG": png.read_xmp}.get(info.format)
    if own:  # Pillow does not read it, or may have skipped it
        metadata = replace(metadata, xmp=own(whole(data)))
    return Header(info, exact, metadata)


def small_grey(page: TiffPage, area: int) -> SmallGrey:
    """`decode_small` for an opened page."""
    small = page.small(area)
    return _triaged(page.info, small.convert("L"), small if small.mode == "RGB" else None, UNKNOWN_ROUNDING)


def _triaged(info: ImageInfo, grey: Image.Image, color: Image.Image | None, rounding: ChromaRounding) -> SmallGrey:
    measured = toning_of(color, info.width * info.height, rounding) if color else Toning(0.0, 0.0)
    return SmallGrey(info, np.asarray(grey), measured.colorfulness, triage(grey, color, measured))
