"""Color pictures as plain upright RGB of 8 bits: what networks are trained on and measured against."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from colorize.imaging.formats.encoded import Encoded
from colorize.imaging.formats.formats import check_pixels, decode_errors, describe, load_pixels, open_picture

RGB = npt.NDArray[np.uint8]  # (H, W, 3), sRGB


def upright_rgb(data: Encoded, max_pixels: int, at_least: int | None = None) -> Image.Image:
    """An encoded picture as upright RGB; with `at_least` a JPEG may come smaller, but no side below that.

    Raises:
        ImageDecodeError: it is no readable picture, or has more than `max_pixels`.
    """
    with open_picture(data) as image:
        info = describe(image, data)
        check_pixels(info, max_pixels)
        with decode_errors(data, info.format):
            if at_least is not None:
                image.draft(None, (at_least, at_least))
            load_pixels(image)
            return plain_rgb(image)


def plain_rgb(image: Image.Image) -> Image.Image:
    """A picture that Pillow has opened, upright and with 8 bits."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):  # 16 bits: Pillow clips these instead of scaling them
        upright = upright.point(lambda v: v / 256).convert("L")
    return upright.convert("RGB")


def center_crop(picture: Image.Image, size: int) -> RGB:
    """The largest centered square, scaled to `size`: `(size, size, 3)`."""
    edge = min(picture.size)
    left, top = (picture.width - edge) / 2, (picture.height - edge) / 2
    box = (left, top, left + edge, top + edge)
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box=box))
