"""The Python API: `colorize.load("default")(image)` returns an image in color with the same luminance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from pydantic import ValidationError

from colorize.errors import UsageError
from colorize.imaging.compose import exact_rgb
from colorize.imaging.formats.samples import luma_of
from colorize.predict.model_files import ModelFile, find_model
from colorize.predict.photo import photo_colorizer
from colorize.predict.settings import ColorizerSettings, PhotoSettings
from colorize.settings import Device, nearest

ImageLike = TypeVar("ImageLike", Image.Image, npt.NDArray[np.uint8], npt.NDArray[np.uint16])
Plane = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]  # (H, W)


def load(model: str = "default", *, device: Device = "auto", **settings: Any) -> Colorizer:
    """Loads a model for coloring images in this process, without Ray.

    Args:
        model: `default`, a checkpoint, a training run's folder (local or remote), or `NAME=WEIGHTS` for a published
            network.
        device: "cuda", "cpu", or "auto" for a GPU if there is one.
        settings: fields of `ColorizerSettings`, such as `size=192`, `temperature=0.5` or `saturation=0.8`.

    Raises:
        UsageError: unknown model or setting.
    """
    unknown = [name for name in settings if name not in ColorizerSettings.model_fields]
    if unknown:
        raise UsageError(f"unknown setting {unknown[0]!r}{nearest(unknown[0], list(ColorizerSettings.model_fields))}")
    try:
        chosen = PhotoSettings(device=device, colorizer=ColorizerSettings(**settings))
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{'.'.join(map(str, first['loc']))}={first['input']!r}: {first['msg']}") from None
    return Colorizer(find_model(model), chosen)


class Colorizer:
    """A network that colors images of any size, one or many at a time. Created by `load`.

    Attributes:
        name: of the model, as passed to `load`.
        sha256: of its checkpoint.
    """

    def __init__(self, model: ModelFile, settings: PhotoSettings) -> None:
        self.name, self.sha256 = model.name, model.sha256
        self._colorizer = photo_colorizer(model.data, settings)

    def __repr__(self) -> str:
        return f"<Colorizer {self.name!r} on {self._colorizer.network.device}>"

    def __call__(self, image: ImageLike) -> ImageLike:
        """Colors an image. The output has the size and, in every pixel, the luma of the input.

        Args:
            image: a Pillow image, or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8 or uint16, sRGB. Its
                color is ignored. A Pillow image is rotated upright by its EXIF orientation and reduced to 8 bits.

        Returns:
            A Pillow image with mode RGB (RGBA if the input has alpha), or an array (H, W, 3) (or 4) of the input's
            dtype.

        Raises:
            ValueError: an array has another shape or dtype.
        """
        return self.batch([image])[0]

    def batch(self, images: Sequence[ImageLike]) -> list[ImageLike]:
        """Colors several images; on a GPU, images of one shape share forward passes."""
        layers = [_layers(image) for image in images]
        area = self._colorizer.canvas_size**2
        colors = self._colorizer([_small(luma, area) for luma, _ in layers])
        return [
            _like(image, exact_rgb(luma, np.asarray(ab, np.float32)), alpha)
            for image, (luma, alpha), ab in zip(images, layers, colors, strict=True)
        ]


def _layers(image: Image.Image | npt.NDArray[Any]) -> tuple[Plane, Plane | None]:
    """Luma and alpha, both (H, W); alpha is None if there is none."""
    if isinstance(image, Image.Image):
        return _pillow_layers(image)
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or not image.size:
        raise ValueError(
            f"an array of {image.dtype} and shape {image.shape}: pass uint8 or uint16, (H, W[, 1, 3 or 4])"
        )
    samples = image if image.ndim == 3 else image[..., None]
    if samples.shape[2] not in (1, 3, 4):
        raise ValueError(f"an array with {samples.shape[2]} channels: pass (H, W), or 1, 3 or 4 channels")
    alpha = samples[..., 3] if samples.shape[2] == 4 else None
    return luma_of(samples), alpha


def _pillow_layers(image: Image.Image) -> tuple[Plane, Plane | None]:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        return (np.asarray(upright) >> 8).astype(np.uint8), None
    if upright.mode in ("I", "F"):
        raise ValueError(
            f"a Pillow image of mode {upright.mode!r} has no defined white: pass an array of uint8 or uint16"
        )
    if not upright.has_transparency_data:
        return np.asarray(upright.convert("L")), None
    opaque = upright.convert("RGBA")
    return np.asarray(opaque.convert("RGB").convert("L")), np.asarray(opaque.getchannel("A"))


def _small(luma: Plane, area: int) -> npt.NDArray[np.uint8]:
    """The 8-bit luma, reduced by an integer factor to at least `area` pixels."""
    grey = luma if luma.dtype == np.uint8 else luma >> 8
    factor = int(math.sqrt(luma.size / area))
    small = Image.fromarray(np.ascontiguousarray(grey, np.uint8))
    return np.asarray(small.reduce(factor) if factor > 1 and min(small.size) >= factor else small)


def _like(image: Any, rgb: Plane, alpha: Plane | None) -> Any:
    """The output as the input's type."""
    pixels = rgb if alpha is None else np.dstack((rgb, alpha))
    return Image.fromarray(pixels) if isinstance(image, Image.Image) else pixels
