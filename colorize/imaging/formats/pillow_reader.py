"""Reads images with Pillow, all formats except TIFF: a small copy for the network, and planes at full size."""

from __future__ import annotations

import math

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, JpegImagePlugin

from colorize.imaging.formats.decoded_image import Plane, half_shape
from colorize.imaging.formats.encoded import Encoded, whole
from colorize.imaging.formats.errors import ImageDecodeError
from colorize.imaging.formats.formats import ImageInfo, stored_bits
from colorize.imaging.formats.jpeg import has_luma_plane
from colorize.imaging.formats.ppm import read_ppm16
from colorize.imaging.formats.samples import BAND_PIXELS, has_alpha, luma_of
from colorize.imaging.tone import ChromaRounding

_BLOCK = 8  # side of a JPEG block in samples
UNKNOWN_ROUNDING = ChromaRounding(1.0, 2.0 * _BLOCK)  # as if the image had been a JPEG of medium quality


def small_copies(image: ImageFile.ImageFile, area: int) -> tuple[Image.Image, Image.Image | None]:
    """A small grey copy and, if the image has color channels, a small color copy, as stored (not upright)."""
    fraction = min(1.0, math.sqrt(area / (image.width * image.height)))
    size = math.ceil(image.width * fraction), math.ceil(image.height * fraction)
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        image.draft("YCbCr" if has_luma_plane(image) and image.mode == "RGB" else None, size)
    image.load()
    plain = _plain(image)
    small = plain.reduce(max(1, min(plain.width // size[0], plain.height // size[1])))
    if small.mode == "L":
        return small, None
    return (small.getchannel(0) if small.mode == "YCbCr" else small.convert("L")), small


def chroma_rounding(image: ImageFile.ImageFile) -> ChromaRounding:
    """The chroma quantization of a JPEG; a typical value for other formats."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or len(image.layer) < 2:
        return UNKNOWN_ROUNDING
    (_, across, *_), (_, across_chroma, _, table) = image.layer[:2]
    return ChromaRounding(image.quantization[table][0] / _BLOCK, _BLOCK * across / across_chroma)


def planes(image: ImageFile.ImageFile, info: ImageInfo, data: Encoded) -> tuple[Plane, Plane | None]:
    """Luma and alpha, (H, W), in the layout of the file."""
    return _planes16(image, info, data) if info.bits == 16 else _planes8(image)


def halved_luma(image: JpegImagePlugin.JpegImageFile) -> Plane:
    """The luma plane of a JPEG at half its size, rounded up."""
    halves = half_shape(*image.size)
    image.draft("L", (max(1, image.width // 2), max(1, image.height // 2)))
    image.load()
    grey = image.convert("L")
    return np.asarray(
        grey if grey.size == halves else grey.reduce(2)
    )  # if it is one pixel wide or high, Pillow returns the full size


def _plain(image: Image.Image) -> Image.Image:
    """The image with a mode that can be averaged: L, RGB or YCbCr, 8 bits."""
    if image.mode in ("L", "RGB", "YCbCr"):
        return image
    if image.mode.startswith("I"):
        return Image.fromarray((_grey16(image) >> 8).astype(np.uint8))
    return image.convert("L" if image.mode in ("1", "LA") else "RGB")


def _planes8(image: ImageFile.ImageFile) -> tuple[Plane, Plane | None]:
    if isinstance(image, JpegImagePlugin.JpegImageFile) and has_luma_plane(image):
        image.draft("L", None)
    image.load()
    pixels = image.convert("RGBA") if image.mode == "PA" else image
    luma = np.asarray(pixels if pixels.mode == "L" else pixels.convert("L"))
    alpha = np.asarray(pixels.convert("RGBA").getchannel("A")) if image.has_transparency_data else None
    return luma, alpha


def _planes16(image: ImageFile.ImageFile, info: ImageInfo, data: Encoded) -> tuple[Plane, Plane | None]:
    if image.mode.startswith("I"):
        image.load()
        grey = _grey16(image)
        clear = image.info.get("transparency")
        opaque = np.uint16(65535)
        return grey, np.where(grey == clear, np.uint16(0), opaque) if isinstance(clear, int) else None
    pixels = _pixels16(image, info, data)
    return np.ascontiguousarray(luma_of(pixels)), np.ascontiguousarray(pixels[..., -1]) if has_alpha(pixels) else None


def _pixels16(image: ImageFile.ImageFile, info: ImageInfo, data: Encoded) -> Plane:
    """Pixels (H, W, channels), uint16, of formats that Pillow reads with 8 bits."""
    if info.format == "PPM":
        return read_ppm16(image, whole(data))
    decoders = {"PNG": imagecodecs.png_decode, "JPEG2000": imagecodecs.jpeg2k_decode}
    pixels = decoders[info.format](whole(data))
    if pixels.dtype != np.uint16 or pixels.ndim != 3 or not 2 <= pixels.shape[2] <= 4:
        kind = f"samples of {pixels.dtype}, shape {pixels.shape}"
        raise ImageDecodeError("unsupported", f"{info.format} with {kind}: convert it to plain 16-bit RGB first")
    samples: Plane = np.left_shift(pixels, 16 - stored_bits(image, data), dtype=np.uint16)
    return samples


def _grey16(image: Image.Image) -> NDArray[np.uint16]:
    """The samples of a 16-bit grey image."""
    samples = np.empty((image.height, image.width), np.uint16)
    rows = max(1, BAND_PIXELS // image.width)  # in bands, because Pillow makes two temporary copies
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        samples[top : top + rows] = np.asarray(band)
    return samples
