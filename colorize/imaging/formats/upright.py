"""Decodes color images to upright 8-bit RGB, for training and evaluation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from colorize.imaging.formats.encoded import Encoded
from colorize.imaging.formats.errors import ImageDecodeError
from colorize.imaging.formats.formats import check_pixels, decode_errors, describe, open_image
from colorize.imaging.formats.jpeg_end import completed
from colorize.imaging.formats.tiff_pages import is_tiff
from colorize.imaging.formats.tiff_reader import tiff_page

RGB = npt.NDArray[np.uint8]  # (H, W, 3), sRGB


def upright_rgb(data: Encoded, max_pixels: int, at_least: int | None = None) -> Image.Image:
    """Decodes an image to upright RGB; with `at_least`, a JPEG may be decoded smaller, with sides of at least that.

    Raises:
        ImageDecodeError: it is not a readable image, or has more than `max_pixels`.
    """
    if is_tiff(data):
        with tiff_page(data) as page:
            check_pixels(page.info, max_pixels)
            return page.small(page.info.width * page.info.height).convert("RGB")
    try:
        return _decoded(data, max_pixels, at_least)
    except ImageDecodeError as error:
        complete = completed(data, error)
        if complete is None:
            raise
        return _decoded(complete, max_pixels, at_least)


def _decoded(data: Encoded, max_pixels: int, at_least: int | None) -> Image.Image:
    with open_image(data) as image:
        info = describe(image, data)
        check_pixels(info, max_pixels)
        with decode_errors(data, info.format):
            if at_least is not None:
                image.draft(None, (at_least, at_least))
            image.load()
            return plain_rgb(image)


def plain_rgb(image: Image.Image) -> Image.Image:
    """A Pillow image as upright 8-bit RGB."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):  # 16 bits, which Pillow would clip instead of scaling
        upright = upright.point(lambda v: v / 256).convert("L")
    return upright.convert("RGB")


def center_crop(image: Image.Image, size: int) -> RGB:
    """The largest center square, resized to `(size, size, 3)`."""
    edge = min(image.size)
    left, top = (image.width - edge) / 2, (image.height - edge) / 2
    box = (left, top, left + edge, top + edge)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
