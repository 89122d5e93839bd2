"""JPEG files with the source's luma coefficients, which are never decoded to pixels and encoded again.

The luma of a JPEG does not depend on its chroma, so a colored copy has the source's quantized luma coefficients, bit
for bit, and two chroma planes (ITU-T T.81). Each component has its own scans. Those of a grey source are copied byte
for byte, which preserves progressive coding and restart markers and takes hardly any time. If luma and chroma share
scans, or the source is arithmetic-coded, its luma coefficients are transcoded losslessly.

CMYK and RGB-coded files have no luma coefficients and are encoded from pixels; 12-bit files are not supported.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from colorize.imaging.formats.decoded_image import JpegTables
from colorize.imaging.formats.errors import ImageDecodeError
from colorize.imaging.formats.formats import decode_errors
from colorize.imaging.formats.jpeg_luma import grey_jpeg
from colorize.imaging.formats.jpeg_segments import copied_segments
from colorize.imaging.formats.jpeg_stream import Plane, assemble, first_plane, segments
from colorize.imaging.formats.metadata import MetadataUpdate

# ITU-T T.81, annex K: the sum of table K.1, and table K.2; encoders scale these by quality.
_STANDARD_LUMA_SUM = 3688
_STANDARD_CHROMA = np.full((8, 8), 99)
_STANDARD_CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]


def has_luma_plane(image: JpegImagePlugin.JpegImageFile) -> bool:
    """Whether the first component is luma at full resolution, by libjpeg's rules."""
    layers = image.layer
    if len(layers) == 1:
        return True
    if len(layers) != 3:
        return False
    full = all(layers[0][axis] >= other[axis] for other in layers[1:] for axis in (1, 2))
    if "jfif" in image.info:
        return full
    if "adobe_transform" in image.info:
        return full and image.info["adobe_transform"] == 1
    return full and [layer[0] for layer in layers] != [ord("R"), ord("G"), ord("B")]


def quantization_tables(image: JpegImagePlugin.JpegImageFile) -> JpegTables:
    """The tables of a copy: the source's, or the standard table for chroma at the source's quality."""
    tables, layers = image.quantization, image.layer
    luma = tables[layers[0][3]]
    if len(layers) == 3 and layers[1][3] != layers[0][3] and layers[1][3] in tables:  # it may follow the luma's scan
        return JpegTables(luma, tables[layers[1][3]])
    return JpegTables(luma, _standard_chroma(sum(luma)))


def write_jpeg(
    source: bytes,
    tables: JpegTables,
    luma: NDArray[np.uint8] | None,
    cb: NDArray[np.uint8],
    cr: NDArray[np.uint8],
    update: MetadataUpdate,
) -> bytes:
    """A colored copy of the JPEG `source`.

    Args:
        source: the encoded source.
        tables: see `quantization_tables`.
        luma: (H, W), encoded with the source's table; None copies the source's luma coefficients.
        cb: chroma of the image's size (4:4:4), or half of it, rounded up (4:2:0).
        cr: likewise.
        update: of the copy's metadata.

    Raises:
        ImageDecodeError: `unreadable`, for a damaged source with coefficients that cannot be encoded.
    """
    y = luma_plane(source) if luma is None else _encoded(luma, tables.luma, progressive=False)
    planes = (y, *(_encoded(plane, tables.chroma, y.progressive) for plane in (cb, cr)))
    factors = 1 if cb.shape == (y.height, y.width) else 2
    return assemble(planes, copied_segments(segments(source), update, (y.width, y.height), components=3), factors)


def write_grey_jpeg(source: bytes, update: MetadataUpdate) -> bytes:
    """A grey JPEG with the luma coefficients of `source`.

    Raises:
        ImageDecodeError: `unreadable`, for a damaged source.
    """
    y = luma_plane(source)
    return assemble((y,), copied_segments(segments(source), update, (y.width, y.height), components=1))


def luma_plane(source: bytes) -> Plane:
    """The luma of a JPEG as a separate component: as stored if possible, else transcoded.

    Raises:
        ImageDecodeError: `unreadable`.
    """
    plane = first_plane(source) or first_plane(_transcoded(source))
    if plane is None:
        raise ImageDecodeError("unreadable", "the luma of the JPEG cannot be copied: damaged data")
    return plane


def _encoded(plane: NDArray[np.uint8], table: Sequence[int], progressive: bool) -> Plane:
    out = io.BytesIO()
    Image.fromarray(plane).save(out, "JPEG", qtables=[list(table)], optimize=True, progressive=progressive)
    found = first_plane(out.getvalue())
    assert found is not None  # it was just written
    return found


def _transcoded(source: bytes) -> bytes:
    """A sequential, Huffman-coded grey JPEG with the luma coefficients of any JPEG."""
    with decode_errors(source, "JPEG"), JpegImagePlugin.JpegImageFile(io.BytesIO(source)) as image:
        size = image.size
    return grey_jpeg(source, size)


@lru_cache(maxsize=16)
def _standard_chroma(luma_sum: int) -> Sequence[int]:
    """The table at the quality of a luma table with this sum.

    The quality is at least 50, below which blocks would be visible in the color before they are in the luma.
    """
    scale = min(1.0, luma_sum / _STANDARD_LUMA_SUM)
    scaled: list[int] = np.clip(np.rint(_STANDARD_CHROMA * scale), 1, 255).astype(int).flatten().tolist()
    return scaled
