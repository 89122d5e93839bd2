"""Decoding to luminance, encoding color, and encoding the luminance alone again."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import IO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, JpegImagePlugin, TiffImagePlugin

from colorize.imaging.formats.encoded import Encoded, whole
from colorize.imaging.formats.errors import ImageDecodeError
from colorize.imaging.formats.formats import (
    ImageInfo,
    check_pixels,
    decode_errors,
    describe,
    load_pixels,
    open_picture,
    stored_bits,
)
from colorize.imaging.formats.jp2 import read_xmp, write_jp2
from colorize.imaging.formats.jpeg import has_luma_plane, write_grey_jpeg, write_jpeg
from colorize.imaging.formats.metadata import Metadata, Provenance, Restored, Words, read_metadata
from colorize.imaging.formats.orientation import orient, unorient
from colorize.imaging.formats.picture import Chroma, Color, Header, Picture, Pixels, Plane, SmallGrey
from colorize.imaging.formats.png import write_png
from colorize.imaging.formats.ppm import read_ppm16
from colorize.imaging.formats.samples import (
    BAND_PIXELS,
    alpha_rows,
    has_alpha,
    luma_of,
    luma_rows,
    reduced,
    upright,
    with_alpha,
)
from colorize.imaging.formats.tiff import write_tiff
from colorize.imaging.formats.tiff_rows import tiff_rows, unassociated
from colorize.imaging.formats.webp import write_webp
from colorize.imaging.triage import colorfulness, triage


def decode_small(data: Encoded, area: int, *, max_pixels: int) -> SmallGrey:
    """Decode a small upright grey copy of about `area` pixels (1 to 4 times that; never enlarged).

    JPEGs are decoded at a fraction of their size, so a copy costs a few milliseconds. 16-bit samples are mapped
    by their type's full range (the upper byte).

    Raises:
        ImageDecodeError: the file is no readable picture, or has more than `max_pixels`.
    """
    with open_picture(data) as image:
        info = describe(image, data)
        check_pixels(info, max_pixels)
        with decode_errors(data, info.format):
            grey, color = _small(image, info, data, area)
            luma = np.asarray(grey)
            if not isinstance(image, TiffImagePlugin.TiffImageFile):  # those are turned already
                luma = orient(luma, info.orientation)
            found = colorfulness(color) if color else 0.0
            return SmallGrey(info, np.ascontiguousarray(luma), found, triage(grey, color, found))


def decode_thumbnail(data: Encoded, area: int, *, max_pixels: int) -> Image.Image:
    """Decode a small upright RGB copy, for people, of about `area` pixels, as `decode_small` does.

    `max_pixels` is the limit of pictures that must be decoded whole: no JPEGs, nor TIFFs that are read by rows.

    Raises:
        ImageDecodeError: the file is no readable picture, or too large a one.
    """
    with open_picture(data) as image:
        info = describe(image, data)
        if not isinstance(image, JpegImagePlugin.JpegImageFile) and tiff_rows(data, info) is None:
            check_pixels(info, max_pixels)
        with decode_errors(data, info.format):
            grey, color = _small(image, info, data, area)
            small = (color or grey).convert("RGB")
            is_turned = isinstance(image, TiffImagePlugin.TiffImageFile)
            return small if is_turned else upright(np.asarray(small), info.orientation)


def decode(data: Encoded, *, max_pixels: int) -> Picture:
    """Decode a picture's luminance (and alpha) at full size, in the layout of the file.

    8-bit luma is Pillow's `convert("L")`, for JPEGs with a luma plane that plane; 16-bit luma is
    round(0.299 R + 0.587 G + 0.114 B).

    Raises:
        ImageDecodeError: the file is no readable picture, or has more than `max_pixels`.
    """
    with open_picture(data) as image:
        info = describe(image, data)
        check_pixels(info, max_pixels)
        with decode_errors(data, info.format):
            luma, alpha = _planes(image, info, data)
            if luma.shape != (info.height, info.width):
                raise ImageDecodeError(
                    "unreadable", f"decoded to {luma.shape}, the header says {info.height, info.width}"
                )
            said = _header(image, info, data)
            return Picture(info, luma, alpha, said.luma_exact, said.metadata, data)


def decode_header(data: Encoded) -> Header:
    """What `decode` would say of a picture besides its pixels, of which none is decoded.

    Metadata that stands behind the pixels (of a PNG) is not seen.

    Raises:
        ImageDecodeError: the file is no readable picture.
    """
    with open_picture(data) as image:
        info = describe(image, data)
        with decode_errors(data, info.format):
            return _header(image, info, data)


def encode(picture: Picture, color: Color, provenance: Provenance) -> bytes:
    """Encode the composed `color` of `picture` (see `colorize.imaging.compose`) in its output format.

    Metadata is carried over, and `provenance` is added to it (`metadata` says where).
    """
    out = io.BytesIO()
    encode_into(out, picture, color, provenance)
    return out.getvalue()


def encode_into(out: IO[bytes], picture: Picture, color: Color, provenance: Provenance) -> None:
    """`encode` into an empty seekable file. Of huge TIFF and PNG only a few rows are in memory at any time.

    Raises:
        ImageDecodeError: the source's pixels, which are decoded only now where it is huge, are damaged.
    """
    words = replace(provenance, luma_exact=picture.luma_exact, source_mode=picture.info.mode)
    if isinstance(color, Chroma):
        luma = None if picture.luma_exact else np.asarray(picture.luma, np.uint8)
        out.write(write_jpeg(whole(picture.source), luma, color.cb, color.cr, words))
    else:
        _write_lossless(out, picture, color, words)


def encode_grey(picture: Picture) -> bytes:
    """Encode a colored copy's luminance in its own format, without what was said about its color.

    From a JPEG only the chroma is taken out; WebP and BMP, which have no grey kind, get three equal channels.
    """
    out = io.BytesIO()
    encode_grey_into(out, picture)
    return out.getvalue()


def encode_grey_into(out: IO[bytes], picture: Picture) -> None:
    """`encode_grey` into an empty seekable file, as `encode_into` does."""
    if picture.info.output_format == "JPEG":
        out.write(write_grey_jpeg(whole(picture.source), Restored()))
    else:
        _write_lossless(out, picture, picture.luma, Restored())


def _write_lossless(out: IO[bytes], picture: Picture, color: Pixels, words: Words) -> None:
    pixels = color if picture.alpha is None else with_alpha(color, picture.alpha)
    match picture.info.output_format:
        case "TIFF":
            write_tiff(out, pixels, picture.source, words)
        case "JPEG2000":
            out.write(write_jp2(np.asarray(pixels), whole(picture.source), words))
        case "WEBP":
            out.write(write_webp(np.asarray(pixels), picture.metadata, words))
        case "BMP":
            _write_bmp(out, np.asarray(color), picture.metadata)
        case _:
            write_png(out, pixels, picture.source, picture.metadata, words)


def _header(image: ImageFile.ImageFile, info: ImageInfo, data: Encoded) -> Header:
    exact = not isinstance(image, JpegImagePlugin.JpegImageFile) or has_luma_plane(image)
    metadata = read_metadata(image.info)
    if info.format == "JPEG2000":  # Pillow leaves this one out
        metadata = replace(metadata, xmp=read_xmp(whole(data)))
    return Header(info, exact, metadata)


def _small(
    image: ImageFile.ImageFile, info: ImageInfo, data: Encoded, area: int
) -> tuple[Image.Image, Image.Image | None]:
    """Small grey copy and, where the picture has color, small color copy; of TIFFs upright."""
    fraction = min(1.0, math.sqrt(area / (info.width * info.height)))
    size = math.ceil(image.width * fraction), math.ceil(image.height * fraction)
    if samples := tiff_rows(data, info):
        factor = min(image.width // size[0], image.height // size[1])
        small = reduced(samples, max(1, factor), info.orientation)
        return small.convert("L"), small if small.mode == "RGB" else None
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        image.draft("YCbCr" if has_luma_plane(image) and image.mode == "RGB" else None, size)
    load_pixels(image)
    plain = _plain(image)
    small = plain.reduce(max(1, min(plain.width // size[0], plain.height // size[1])))
    if small.mode == "L":
        return small, None
    return (small.getchannel(0) if small.mode == "YCbCr" else small.convert("L")), small


def _plain(image: Image.Image) -> Image.Image:
    """As a mode that can be averaged: L, RGB or YCbCr, 8 bits."""
    if image.mode in ("L", "RGB", "YCbCr"):
        return image
    if image.mode.startswith("I"):
        return Image.fromarray((_grey16(image) >> 8).astype(np.uint8))
    if image.mode in ("1", "LA", "La"):
        return image.convert("LA").getchannel(0) if image.mode == "La" else image.convert("L")
    return image.convert("RGBA").convert("RGB") if image.mode == "RGBa" else image.convert("RGB")


def _planes(image: ImageFile.ImageFile, info: ImageInfo, data: Encoded) -> tuple[Pixels, Pixels | None]:
    """Luma and alpha, (H, W), in the layout of the file."""
    if samples := tiff_rows(data, info):
        return luma_rows(samples), alpha_rows(samples) if has_alpha(samples) else None
    return _planes16(image, info, data) if info.bits == 16 else _planes8(image, info)


def _planes8(image: ImageFile.ImageFile, info: ImageInfo) -> tuple[Plane, Plane | None]:
    if isinstance(image, JpegImagePlugin.JpegImageFile) and has_luma_plane(image):
        image.draft("L", None)
    load_pixels(image)
    straight = {"RGBa": "RGBA", "La": "LA", "LAB": "RGB", "PA": "RGBA"}.get(image.mode)
    pixels = image.convert(straight) if straight else image
    luma = np.asarray(pixels if pixels.mode == "L" else pixels.convert("L"))
    alpha = np.asarray(pixels.convert("RGBA").getchannel("A")) if image.has_transparency_data else None
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        luma = unorient(luma, info.orientation)
        alpha = None if alpha is None else unorient(alpha, info.orientation)
    return luma, alpha


def _planes16(image: ImageFile.ImageFile, info: ImageInfo, data: Encoded) -> tuple[Plane, Plane | None]:
    if image.mode.startswith("I"):
        load_pixels(image)
        grey = _grey16(image)
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            grey = unorient(grey, info.orientation)
        clear = image.info.get("transparency")
        opaque = np.uint16(65535)
        return grey, np.where(grey == clear, np.uint16(0), opaque) if isinstance(clear, int) else None
    pixels = _pixels16(image, info, data)
    return np.ascontiguousarray(luma_of(pixels)), np.ascontiguousarray(pixels[..., -1]) if has_alpha(pixels) else None


def _pixels16(image: ImageFile.ImageFile, info: ImageInfo, data: Encoded) -> Plane:
    """(H, W, channels) uint16 of the formats that Pillow reads as 8 bits."""
    if info.format == "PPM":
        return read_ppm16(image, whole(data))
    decoders = {"PNG": imagecodecs.png_decode, "TIFF": imagecodecs.tiff_decode, "JPEG2000": imagecodecs.jpeg2k_decode}
    pixels = decoders[info.format](whole(data))
    if pixels.ndim == 3 and pixels.shape[1:] == (info.height, info.width):  # separate planes
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.dtype != np.uint16 or pixels.ndim != 3 or not 2 <= pixels.shape[2] <= 4:
        kind = f"samples of {pixels.dtype}, shape {pixels.shape}"
        raise ImageDecodeError("unsupported", f"{info.format} with {kind}: convert it to plain 16-bit RGB first")
    samples = np.left_shift(pixels, 16 - stored_bits(image, data), dtype=np.uint16)
    return unassociated(samples) if _has_associated_alpha(image) else samples


def _has_associated_alpha(image: Image.Image) -> bool:
    return isinstance(image, TiffImagePlugin.TiffImageFile) and 1 in image.tag_v2.get(338, ())


def _grey16(image: Image.Image) -> NDArray[np.uint16]:
    """Samples of a 16-bit grey picture, black at 0; those of a TIFF with fewer bits are scaled up: white is white.

    Pillow turns TIFFs in which 0 is white (photometric interpretation 0) the right way round at 8 bits only.
    """
    samples = np.empty((image.height, image.width), np.uint16)
    rows = max(1, BAND_PIXELS // image.width)  # of the whole picture at once Pillow makes two copies more
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        samples[top : top + rows] = np.asarray(band)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = stored_bits(image, b"")
        if image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:
            np.subtract(np.uint16((1 << bits) - 1), samples, out=samples)
        samples <<= 16 - bits
    return samples


def _write_bmp(out: IO[bytes], pixels: Plane, metadata: Metadata) -> None:
    options = {"dpi": metadata.dpi} if metadata.dpi else {}
    Image.fromarray(pixels).save(out, "BMP", **options)
