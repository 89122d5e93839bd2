"""Functions on the pixels of one image, for the sandbox. No torch."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from colorize.imaging.formats import (
    Encoded,
    FileBytes,
    SmallGrey,
    Subsampling,
    decode_small,
    decode_small_pages,
    has_pages,
    sha256,
)
from colorize.imaging.formats.upright import upright_rgb
from colorize.predict.render import Ab, Provenance, render_into
from colorize.predict.upstream import Upstream
from colorize.storage.local_root import Draft

COMPARE_HEIGHT = 512  # pixels, of the comparison sheet


@dataclass(frozen=True, slots=True)
class Inspection:
    """An image's small copy, the network's input (H, W) for each 0-based page, and its hash."""

    small: SmallGrey
    greys: dict[int, npt.NDArray[np.uint8]]
    sha256: str


def inspect(
    data: Encoded, area: int, max_pixels: int, upstream: Upstream | None = None, *, all_pages: bool = False
) -> Inspection:
    """Decodes small copies of about `area` pixels, optionally of all pages of a TIFF. Raises ImageDecodeError."""
    small = decode_small(data, area, max_pixels=max_pixels)
    pages = {0: small}
    if all_pages and has_pages(small.info):
        pages = decode_small_pages(data, area, max_pixels=max_pixels)
    greys = {number: page.luma for number, page in pages.items()}
    if upstream:
        greys = {number: upstream.square(data, max_pixels=max_pixels, page=number) for number in pages}
    return Inspection(small, greys, sha256(data))


def copy_into(
    draft: Draft,
    data: Encoded,
    ab_2hw: Ab | Mapping[int, Ab],
    provenance: Provenance,
    *,
    max_pixels: int,
    subsampling: Subsampling,
    upstream: Upstream | None,
) -> None:
    """Writes the colored copy to a draft. Raises ImageDecodeError, OSError."""
    with draft.open() as out:
        render_into(out, data, ab_2hw, provenance, max_pixels=max_pixels, subsampling=subsampling, upstream=upstream)


def side_by_side(source: Encoded, colored: Path, max_pixels: int) -> bytes:
    """A JPEG with grey, colored and original side by side, upright, of the same height. Raises ImageDecodeError."""
    original = _panel(source, max_pixels)
    panels = [original.convert("L").convert("RGB"), _panel(FileBytes(colored), max_pixels), original]
    sheet = Image.new("RGB", (sum(p.width for p in panels), panels[0].height))
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, 0))
        left += panel.width
    encoded = io.BytesIO()
    sheet.save(encoded, "JPEG", quality=92)
    return encoded.getvalue()


def _panel(data: Encoded, max_pixels: int) -> Image.Image:
    upright = upright_rgb(data, max_pixels)
    width = max(1, round(upright.width * COMPARE_HEIGHT / upright.height))
    return upright.resize((width, COMPARE_HEIGHT), Image.Resampling.LANCZOS)
