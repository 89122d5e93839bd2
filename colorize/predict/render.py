"""One image from its encoded bytes and its low-resolution color to the encoded colored copy."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, TypeAlias

import numpy as np
import numpy.typing as npt

from colorize.imaging.compose import compose
from colorize.imaging.formats import (
    Color,
    DecodedImage,
    Encoded,
    Provenance,
    Subsampling,
    decode,
    encode_into,
    encode_pages_into,
)
from colorize.predict.upstream import Upstream

__all__ = ["Ab", "Provenance", "Rendered", "render", "render_into"]

Ab: TypeAlias = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Rendered:
    """An encoded colored image."""

    data: bytes = field(repr=False)
    luma_exact: bool  # its luminance is the source's, bit for bit


def render(
    data: Encoded,
    ab_2hw: Ab | Mapping[int, Ab],
    provenance: Provenance,
    *,
    max_pixels: int,
    subsampling: Subsampling = "4:2:0",
    upstream: Upstream | None = None,
) -> Rendered:
    """The colored copy of the image in `data`: same size, same layout, same luminance.

    Args:
        data: the encoded source.
        ab_2hw: upright Lab color of the whole image, at any lower resolution. A mapping holds that of each page of
            a TIFF that is colored, counted from 0; its other pages are copied as they are.
        provenance: what the copy says about itself in its metadata.
        max_pixels: images with more are refused.
        subsampling: of the chroma, where the copy is a JPEG.
        upstream: put together as the network's authors do; then the luminance is not kept.

    Raises:
        ImageDecodeError: `data` is not an image that can be colored.
    """
    out = io.BytesIO()
    exact = render_into(
        out, data, ab_2hw, provenance, max_pixels=max_pixels, subsampling=subsampling, upstream=upstream
    )
    return Rendered(out.getvalue(), exact)


def render_into(
    out: IO[bytes],
    data: Encoded,
    ab_2hw: Ab | Mapping[int, Ab],
    provenance: Provenance,
    *,
    max_pixels: int,
    subsampling: Subsampling = "4:2:0",
    upstream: Upstream | None = None,
) -> bool:
    """`render` into an empty seekable file; returns whether the luminance is exact.

    Of huge TIFF and PNG the copy is made a few rows at a time, and a TIFF that is no `bytes` is read so, too.
    """

    def painted(image: DecodedImage, ab: Ab) -> tuple[DecodedImage, Color]:
        return upstream.paint(image, ab) if upstream else (image, compose(image, ab, subsampling))

    if isinstance(ab_2hw, Mapping):
        colors = ab_2hw
        return encode_pages_into(
            out,
            data,
            set(colors),
            lambda page, image: painted(image, colors[page]),
            provenance,
            max_pixels=max_pixels,
        )
    halved = upstream is None and subsampling == "4:2:0"
    image, color = painted(decode(data, max_pixels=max_pixels, halved=halved), ab_2hw)
    encode_into(out, image, color, provenance)
    return image.luma_exact
