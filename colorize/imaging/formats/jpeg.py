"""JPEG files with the source's own luma coefficients: nothing of the scan is decoded and encoded again.

The luma of a JPEG does not depend on its chroma, so a colored copy is the source's quantized luma coefficients, bit
for bit, and two chroma planes (ITU-T T.81). Each component has scans of its own. Those of a grey source are moved into
the copy byte for byte: it stays progressive, keeps its restart markers, and costs no time. From a source whose luma
and chroma share scans, and from an arithmetic-coded one, the luma coefficients are coded once more, without loss.

What has no luma coefficients to carry over (CMYK and RGB-coded files) is encoded from pixels; 12-bit files are not
read at all.
"""

from __future__ import annotations

import ctypes
import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import jpeglib
import numpy as np
from jpeglib._bind import CJpegLib
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from colorize.imaging.formats.errors import ImageDecodeError
from colorize.imaging.formats.formats import decode_errors
from colorize.imaging.formats.jpeg_segments import carried
from colorize.imaging.formats.jpeg_stream import Plane, bare, first_plane, merged, segments
from colorize.imaging.formats.metadata import Words

# ITU-T T.81, annex K, the sum of table K.1 and table K.2: what encoders scale to a quality.
_STANDARD_LUMA_SUM = 3688
_STANDARD_CHROMA = np.full((8, 8), 99)
_STANDARD_CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

Coefficients = NDArray[np.int16]  # (blocks down, blocks across, 8, 8)


def has_luma_plane(image: JpegImagePlugin.JpegImageFile) -> bool:
    """Whether the first component is luma at full resolution, by the rules that libjpeg follows."""
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


def write_jpeg(
    source: bytes, luma: NDArray[np.uint8] | None, cb: NDArray[np.uint8], cr: NDArray[np.uint8], words: Words
) -> bytes:
    """A colored copy of the JPEG `source`.

    `cb` and `cr` have the picture's size (4:4:4), or half of it rounded up (4:2:0). `luma` (H, W) is encoded where it
    is given, with the source's tables; `None` carries the source's own luma coefficients over.

    Raises:
        ImageDecodeError: `unreadable`, for a damaged source whose coefficients no JPEG can hold.
    """
    with JpegImagePlugin.JpegImageFile(io.BytesIO(source)) as image:
        luma_table, chroma_table = _tables(image)
    y = luma_plane(source) if luma is None else _encoded(luma, luma_table, progressive=False)
    planes = (y, *(_encoded(plane, chroma_table, y.progressive) for plane in (cb, cr)))
    factors = 1 if cb.shape == (y.height, y.width) else 2
    return merged(planes, carried(segments(source), words, (y.width, y.height), components=3), factors)


def write_grey_jpeg(source: bytes, words: Words) -> bytes:
    """`source` without its chroma: a grey JPEG of the same luma coefficients.

    Raises:
        ImageDecodeError: `unreadable`, for a damaged source.
    """
    y = luma_plane(source)
    return merged((y,), carried(segments(source), words, (y.width, y.height), components=1))


def luma_plane(source: bytes) -> Plane:
    """The luma of a JPEG as a component of its own: as it is stored where that is possible, else coded again.

    Raises:
        ImageDecodeError: `unreadable`.
    """
    plane = first_plane(source) or first_plane(_transcoded(source))
    if plane is None:
        raise ImageDecodeError("unreadable", "JPEG whose luma cannot be carried over: damaged data")
    return plane


def luma_coefficients(data: bytes) -> Coefficients:
    """The quantized luma coefficients of a JPEG, (blocks down, blocks across, 8, 8).

    Raises:
        ImageDecodeError: `unreadable`.
    """
    with _scratch() as scratch:
        return _read_luma(data, scratch)[0]


def _encoded(plane: NDArray[np.uint8], table: Sequence[int], progressive: bool) -> Plane:
    out = io.BytesIO()
    Image.fromarray(plane).save(out, "JPEG", qtables=[list(table)], optimize=True, progressive=progressive)
    found = first_plane(out.getvalue())
    assert found is not None  # it was just written
    return found


def _transcoded(source: bytes) -> bytes:
    """A grey JPEG, sequential and Huffman-coded, with the luma coefficients of any JPEG."""
    with decode_errors(source, "JPEG"), JpegImagePlugin.JpegImageFile(io.BytesIO(source)) as image:
        width, height = image.size
    with _scratch() as scratch:
        y, table = _read_luma(source, scratch)
        copy = jpeglib.from_dct(Y=y, qt=table[np.newaxis])
        copy.width, copy.height = width, height
        path = scratch / "grey.jpg"
        copy.write_dct(str(path), flags=["+OPTIMIZE_CODING"])
        return path.read_bytes()


def _read_luma(data: bytes, scratch: Path) -> tuple[Coefficients, NDArray[np.uint16]]:
    """Luma coefficients and their table. Calls jpeglib's library itself: its reader leaves files behind on damage."""
    _choose_library()
    path = scratch / "read.jpg"
    path.write_bytes(bare(data))  # jpeglib reads no file with more than 49 metadata segments
    down, across = jpeglib.read_dct(str(path)).block_dims[0]
    y = np.zeros((down, across, 8, 8), np.int16)
    tables, used = np.zeros((4, 8, 8), np.uint16), np.zeros(4, np.int16)
    buffers = (a.ctypes.data_as(ctypes.c_void_p) for a in (y, tables, used))
    y_buffer, table_buffer, used_buffer = buffers
    if not CJpegLib.get().read_jpeg_dct(str(path).encode(), y_buffer, None, None, None, table_buffer, used_buffer):
        raise OSError("the coefficients cannot be read")
    return y, tables[used[0]]


@lru_cache(maxsize=1)
def _choose_library() -> None:
    """libjpeg-turbo: the fastest of those that jpeglib brings, and one that reads arithmetic coding."""
    jpeglib.version.set("turbo210")


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for the files that jpeglib reads and writes; what it cannot do is the source's damage."""
    with tempfile.TemporaryDirectory(prefix="colorize-") as folder:
        try:
            yield Path(folder)
        except OSError as e:
            if e.errno is not None:  # the disk's
                raise
            raise ImageDecodeError("unreadable", "JPEG whose luma cannot be carried over: damaged data") from e


def _tables(image: JpegImagePlugin.JpegImageFile) -> tuple[Sequence[int], Sequence[int]]:
    """Quantization tables for luma and chroma: the source's own, or the standard chroma at its quality.

    Below quality 50 the color of a grey source would show blocks before its luma does, so it stays at that.
    """
    tables, layers = image.quantization, image.layer
    luma = tables[layers[0][3]]
    if len(layers) == 3 and layers[1][3] != layers[0][3]:
        return luma, tables[layers[1][3]]
    scale = min(1.0, sum(luma) / _STANDARD_LUMA_SUM)
    chroma = np.clip(np.rint(_STANDARD_CHROMA * scale), 1, 255).astype(int)
    return luma, chroma.flatten().tolist()
