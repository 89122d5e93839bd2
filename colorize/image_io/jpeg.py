"""JPEG files with the source's own luma coefficients: nothing of the scan is decoded and encoded again.

The luma block of a JPEG does not depend on its chroma, so a colored copy is the source's quantized luma
coefficients, bit for bit, and two chroma planes at half resolution (4:2:0, ITU-T T.81). The copy is always
sequential and Huffman-coded, also where the source is progressive or arithmetic-coded: the coefficients are the
same. Metadata segments are copied as they are.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import jpeglib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from colorize.image_io.formats import ImageDecodeError
from colorize.image_io.metadata import Provenance, is_rgb_profile

_SOI = b"\xff\xd8"
_APP0, _APP1, _APP2, _APP14, _APP15, _COM, _SOS = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF, 0xFE, 0xDA
_ICC, _XMP, _MPF, _ADOBE = b"ICC_PROFILE\0", b"http://ns.adobe.com/xap/1.0/\0", b"MPF\0", b"Adobe"
_LONGEST = 65533  # bytes of payload that fit a segment

# ITU-T T.81, annex K, the sum of table K.1 and table K.2: what encoders scale to a quality.
_STANDARD_LUMA_SUM = 3688
_STANDARD_CHROMA = np.full((8, 8), 99)
_STANDARD_CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

Coefficients = NDArray[np.int16]  # (blocks down, blocks across, 8, 8)


class Segment(NamedTuple):
    """One marker segment of the header: its marker's second byte and its payload."""

    marker: int
    payload: bytes

    def encoded(self) -> bytes:
        return bytes((0xFF, self.marker)) + (len(self.payload) + 2).to_bytes(2, "big") + self.payload


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
    source: bytes,
    luma: NDArray[np.uint8] | None,
    cb: NDArray[np.uint8],
    cr: NDArray[np.uint8],
    size: tuple[int, int],
    provenance: Provenance | None,
) -> bytes:
    """A colored copy of the JPEG `source`, `size` (width, height) pixels large.

    `cb` and `cr` have half the resolution, rounded up. `luma` (H, W) is encoded where it is given, with the
    source's tables; `None` carries the source's own luma coefficients over.

    Raises:
        ImageDecodeError: `unreadable`, for a damaged source whose coefficients no JPEG can hold.
    """
    with JpegImagePlugin.JpegImageFile(io.BytesIO(source)) as image:
        luma_table, chroma_table = _tables(image)
    with _scratch() as scratch:
        blocks = -(-size[1] // 8), -(-size[0] // 8)
        y_source = source if luma is None else _grey_jpeg(luma, luma_table)
        y, y_table = _first_component(y_source, scratch)
        planes = [_first_component(_grey_jpeg(plane, chroma_table), scratch) for plane in (cb, cr)]
        copy = jpeglib.from_dct(
            Y=y[: blocks[0], : blocks[1]], Cb=planes[0][0], Cr=planes[1][0], qt=np.stack((y_table, planes[0][1]))
        )
        copy.width, copy.height = size
        copy.samp_factor = np.array([[2, 2], [1, 1], [1, 1]])
        path = scratch / "copy.jpg"
        copy.write_dct(str(path), flags=["+OPTIMIZE_CODING"])
        return _with_segments(path.read_bytes(), _carried(segments(source), provenance))


def luma_coefficients(data: bytes) -> Coefficients:
    """The quantized luma coefficients of a JPEG, (blocks down, blocks across, 8, 8).

    Raises:
        ImageDecodeError: `unreadable`.
    """
    with _scratch() as scratch:
        return _first_component(data, scratch)[0]


def segments(data: bytes) -> list[Segment]:
    """The marker segments of a JPEG's header, up to its first scan."""
    return list(_segments(data))


def _segments(data: bytes) -> Iterator[Segment]:
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:  # decoders skip stray bytes between segments
            position += 1
            continue
        marker = data[position + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD9:
            position += 1
            continue
        if marker == _SOS:
            return
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        yield Segment(marker, data[position + 4 : position + 2 + length])
        position += 2 + length


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


def _first_component(data: bytes, scratch: Path) -> tuple[Coefficients, NDArray[np.uint16]]:
    path = scratch / "read.jpg"
    path.write_bytes(data)
    picture = jpeglib.read_dct(str(path))
    return picture.Y, picture.qt[picture.quant_tbl_no[0]]


def _grey_jpeg(plane: NDArray[np.uint8], table: Sequence[int]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(plane).save(out, "JPEG", qtables=[list(table)])
    return out.getvalue()


def _tables(image: JpegImagePlugin.JpegImageFile) -> tuple[Sequence[int], Sequence[int]]:
    """Quantization tables for luma and chroma: the source's own, or the standard chroma at its quality."""
    tables, layers = image.quantization, image.layer
    luma = tables[layers[0][3]]
    if len(layers) == 3 and layers[1][3] != layers[0][3]:
        return luma, tables[layers[1][3]]
    scale = sum(luma) / _STANDARD_LUMA_SUM
    chroma = np.clip(np.rint(_STANDARD_CHROMA * scale), 1, 255).astype(int)
    return luma, chroma.flatten().tolist()


def _carried(header: list[Segment], provenance: Provenance | None) -> list[Segment]:
    """The source's metadata segments that hold for the copy too, and the provenance."""
    icc = b"".join(s.payload[14:] for s in header if s.marker == _APP2 and s.payload.startswith(_ICC))
    kept = [s for s in header if _is_metadata(s) and (is_rgb_profile(icc) or not s.payload.startswith(_ICC))]
    if provenance is None:
        return kept
    xmp = next((s for s in kept if s.marker == _APP1 and s.payload.startswith(_XMP)), None)
    packet = Segment(_APP1, _XMP + provenance.xmp(xmp.payload[len(_XMP) :] if xmp else None))
    comment = Segment(_COM, provenance.sentence.encode())
    if len(packet.payload) > _LONGEST:  # a full segment: the sentence has to do
        return [*kept, comment]
    return [*(s for s in kept if s is not xmp), packet, comment]


def _is_metadata(segment: Segment) -> bool:
    marker, payload = segment
    if marker == _APP14 and payload.startswith(_ADOBE):
        return len(payload) >= 12 and payload[11] == 1  # another transform would name another color space
    if marker == _APP2 and payload.startswith(_MPF):
        return False  # the other pictures of the file are not carried over
    return marker == _COM or _APP0 <= marker <= _APP15


def _with_segments(data: bytes, carried: list[Segment]) -> bytes:
    """Replace the metadata segments of a JPEG."""
    start = 2
    while data[start + 1] == _COM or _APP0 <= data[start + 1] <= _APP15:
        start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    return _SOI + b"".join(s.encoded() for s in carried) + data[start:]
