"""One picture from its encoded bytes and its low-resolution color to the encoded colored copy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from colorize.compose import compose
from colorize.image_io import Provenance, Subsampling, decode, encode
from colorize.upstream import Upstream

__all__ = ["Provenance", "Rendered", "render"]


@dataclass(frozen=True, slots=True)
class Rendered:
    """An encoded colored picture."""

    data: bytes = field(repr=False)
    luma_exact: bool  # its luminance is the source's, bit for bit


def render(
    data: bytes,
    ab_2hw: npt.NDArray[np.floating],
    provenance: Provenance,
    *,
    max_pixels: int,
    subsampling: Subsampling = "4:2:0",
    upstream: Upstream | None = None,
) -> Rendered:
    """The colored copy of the picture in `data`: same size, same layout, same luminance.

    Args:
        data: the encoded source.
        ab_2hw: upright Lab color of the whole picture, at any lower resolution.
        provenance: what the copy says about itself in its metadata.
        max_pixels: pictures with more are refused.
        subsampling: of the chroma, where the copy is a JPEG.
        upstream: put together as the network's authors do; then the luminance is not kept.

    Raises:
        ImageDecodeError: `data` is not a picture that can be colored.
    """
    picture = decode(data, max_pixels=max_pixels)
    if upstream is not None:
        picture, color = upstream.paint(picture, ab_2hw)
        return Rendered(encode(picture, color, provenance), picture.luma_exact)
    return Rendered(encode(picture, compose(picture, ab_2hw, subsampling), provenance), picture.luma_exact)
