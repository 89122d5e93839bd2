"""WebP files: lossless pixels with 8 bits, with the metadata that Pillow reads from the source."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from colorize.imaging.formats import exif
from colorize.imaging.formats.decoded_image import Plane, channels
from colorize.imaging.formats.icc import for_rgb
from colorize.imaging.formats.metadata import Metadata, MetadataUpdate


def write_webp(pixels: Plane, metadata: Metadata, update: MetadataUpdate) -> bytes:
    """Encode (H, W) or (H, W, 2 to 4) uint8 pixels; grey becomes three equal channels, because WebP has no grey."""
    if channels(pixels) < 3:
        grey = pixels.reshape(*pixels.shape[:2], -1)
        pixels = np.dstack((grey[..., :1], grey[..., :1], grey))
    out = io.BytesIO()
    Image.fromarray(pixels).save(
        out,
        "WEBP",
        lossless=True,
        exact=True,  # keep the color under transparent pixels
        quality=50,  # for lossless files, the effort
        exif=exif.updated(metadata.exif or b"", (pixels.shape[1], pixels.shape[0]), components=3),
        icc_profile=for_rgb(metadata.icc) or b"",
        xmp=update.xmp(metadata.xmp) or b"",
    )
    return out.getvalue()
