"""Renders the colored copy of an encoded image from its low-resolution color."""

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
    """Renders the colored copy of the image in `data`, with the same size, layout and luminance.

    Args:
        data: the encoded source.
        ab_2hw: ab of the whole upright image in Lab units, at any lower resolution. For a TIFF with several pages, a
            mapping from 0-based page numbers; other pages are copied.
        provenance: for the copy's metadata.
        max_pixels: larger images are refused.
        subsampling: of the chroma, if the copy is a JPEG.
        upstream: the authors' postprocessing, which does not preserve luminance.

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
    """Like `render`, but writes to an empty seekable file; returns whether the luminance is exact.

    Huge TIFFs and PNGs are written a few rows at a time, and a TIFF that is not `bytes` is read the same way.
    """

    def compose_image(image: DecodedImage, ab: Ab) -> tuple[DecodedImage, Color]:
        return upstream.compose(image, ab) if upstream else (image, compose(image, ab, subsampling))

    if isinstance(ab_2hw, Mapping):
        colors = ab_2hw
        return encode_pages_into(
            out,
            data,
            set(colors),
            lambda page, image: compose_image(image, colors[page]),
            provenance,
            max_pixels=max_pixels,
        )
    halved = upstream is None and subsampling == "4:2:0"
    image, color = compose_image(decode(data, max_pixels=max_pixels, halved=halved), ab_2hw)
    encode_into(out, image, color, provenance)
    return image.luma_exact
