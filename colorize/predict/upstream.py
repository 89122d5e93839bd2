"""The pre- and postprocessing of the published networks' authors, to reproduce their images.

Images are squashed to a square. The color is upsampled independently of edges, combined with the image's L*, and
clipped to sRGB. Neither aspect ratio nor luminance is preserved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from colorize.errors import UsageError
from colorize.imaging.colorimetry import CB_SCALE, CR_SCALE, LUMA_WEIGHTS
from colorize.imaging.compose import srgb_with_lightness_of, strips, to_stored_layout
from colorize.imaging.formats import DecodedImage, Encoded, decode
from colorize.imaging.formats.decoded_image import Chroma, Color
from colorize.imaging.formats.orientation import orient
from colorize.predict.settings import ColorSettings

Float = NDArray[np.float32]
Grey = NDArray[np.uint8]
P = TypeVar("P", bound=ColorSettings)


@dataclass(frozen=True, slots=True)
class Upstream:
    """The processing of a network's authors.

    Attributes:
        side: of the network's square input, in pixels.
        antialias: whether the input is resized with Pillow's bicubic filter; else with OpenCV's bilinear one, which
            only uses the nearest four pixels.
        upscale: factor of the bilinear upsampling in the network's own last layer.
        bilinear: whether the color is upsampled bilinearly to full size; else by nearest neighbor.
    """

    side: int
    antialias: bool
    upscale: int
    bilinear: bool

    def square(self, data: Encoded, *, max_pixels: int, page: int = 0) -> Grey:
        """The network's input for an image or a page of a TIFF: upright, (side, side). Raises ImageDecodeError."""
        image = decode(data, max_pixels=max_pixels, page=page)
        luma = np.asarray(image.luma)
        luma = luma if luma.dtype == np.uint8 else (luma >> 8).astype(np.uint8)
        upright = Image.fromarray(np.ascontiguousarray(orient(luma, image.info.orientation)))
        shape = self.side, self.side
        if self.antialias:
            return np.asarray(upright.resize(shape, Image.Resampling.BICUBIC))
        scale = upright.width / self.side, 0, 0, 0, upright.height / self.side, 0
        return np.asarray(upright.transform(shape, Image.Transform.AFFINE, scale, Image.Resampling.BILINEAR))

    def compose(self, image: DecodedImage, ab_2hw: NDArray[np.floating]) -> tuple[DecodedImage, Color]:
        """Composes `image` with its color like the authors; the luma of the returned image is that of the color.

        Raises:
            ValueError: the color is not finite.
        """
        ab = to_stored_layout(ab_2hw, image)
        ab = _bilinear(ab, (ab.shape[1] * self.upscale, ab.shape[2] * self.upscale), slice(None))
        enlarge = _bilinear if self.bilinear else _nearest
        white = np.iinfo(image.luma.dtype).max
        rgb = np.empty((*image.luma.shape, 3), image.luma.dtype)
        for rows in strips(image.luma):
            strip = srgb_with_lightness_of(image.luma[rows], enlarge(ab, image.luma.shape, rows))
            rgb[rows] = np.rint(np.stack(strip, axis=-1) * np.float32(white))
        if image.info.output_format != "JPEG":
            return replace(image, luma_exact=False), rgb
        return _as_jpeg(image, rgb)


def sized(settings: P, upstream: Upstream | None) -> P:
    """Settings with the input size of `upstream`; unchanged if it is None."""
    if upstream is None:
        return settings
    return settings.model_copy(update={"colorizer": settings.colorizer.model_copy(update={"size": upstream.side})})


_BY_ZHANG = Upstream(256, antialias=True, upscale=1, bilinear=True)
_BY_KANG = Upstream(512, antialias=False, upscale=1, bilinear=False)
_KNOWN = {
    "eccv16": replace(_BY_ZHANG, upscale=4),
    "siggraph17": _BY_ZHANG,
    "ddcolor_large": _BY_KANG,
    "ddcolor_tiny": _BY_KANG,
}


def upstream_of(processing: str, architecture: str) -> Upstream | None:
    """The processing for a network according to `output.processing`: None for `ours`.

    Raises:
        UsageError: the network has no upstream processing.
    """
    if processing == "ours":
        return None
    if architecture not in _KNOWN:
        raise UsageError(f"output.processing=upstream: only for {', '.join(_KNOWN)}, not for {architecture}")
    return _KNOWN[architecture]


def _as_jpeg(image: DecodedImage, rgb: NDArray[np.unsignedinteger]) -> tuple[DecodedImage, Chroma]:
    """Full-range YCbCr (ITU-T T.871) with 4:2:0 chroma."""
    red, green, blue = (channel.astype(np.float32) for channel in np.moveaxis(rgb, -1, 0))
    luma = LUMA_WEIGHTS[0] * red + LUMA_WEIGHTS[1] * green + LUMA_WEIGHTS[2] * blue
    planes = (128 + (blue - luma) * CB_SCALE, 128 + (red - luma) * CR_SCALE)
    cb, cr = (np.asarray(Image.fromarray(np.rint(p).clip(0, 255).astype(np.uint8)).reduce(2)) for p in planes)
    return replace(image, luma=np.rint(luma).astype(np.uint8), luma_exact=False), Chroma(cb, cr)


def _nearest(ab: Float, shape: tuple[int, ...], rows: slice) -> Float:
    """Like the default of torch's `interpolate`."""
    y, x = (np.arange(full) * low // full for full, low in zip(shape, ab.shape[1:], strict=True))
    return ab[:, y[rows, None], x]


def _bilinear(ab: Float, shape: tuple[int, ...], rows: slice) -> Float:
    """Like torch's bilinear `interpolate`: aligned pixel areas, edges replicated, no antialiasing."""
    (top, bottom, down), (left, right, across) = (_between(f, n) for f, n in zip(shape, ab.shape[1:], strict=True))
    upper, lower = ab[:, top[rows]], ab[:, bottom[rows]]
    tall = upper + (lower - upper) * down[rows, None]
    wide: Float = tall[:, :, left] + (tall[:, :, right] - tall[:, :, left]) * across
    return wide


def _between(full: int, low: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Float]:
    """For each of `full` pixels, the two of `low` pixels that it is between, and the weight of the second."""
    place = np.maximum((np.arange(full) + 0.5) * low / full - 0.5, 0)
    first = np.minimum(place.astype(np.intp), low - 1)
    return first, np.minimum(first + 1, low - 1), (place - first).astype(np.float32)
