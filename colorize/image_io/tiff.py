"""TIFF files: grey or true-color pixels at 8 or 16 bits, with the source's own tags carried over.

Pillow writes no 16-bit RGB, so the strips are laid out here (TIFF 6.0); Pillow serializes the tags.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import Any

import imagecodecs
from PIL import TiffImagePlugin

from colorize.image_io.formats import decode_errors
from colorize.image_io.icc import fitting
from colorize.image_io.metadata import Words, is_own_sentence
from colorize.image_io.picture import Plane, channels

_STRIP_BYTES = 1 << 20
_LEVEL = 3  # of Deflate: scans have grain, which higher levels hardly make smaller
_NONE, _LZW, _DEFLATE, _PACKBITS, _ZSTD = 1, 5, 8, 32773, 50000
_PREDICTED = (_LZW, _DEFLATE, _ZSTD)
_DESCRIPTION, _XMP, _ICC = 270, 700, 34675
_NESTED = (34665, 34853)  # EXIF and GPS: directories of their own
_PIXEL_X, _PIXEL_Y = 0xA002, 0xA003

# Tags that describe how the source's samples are stored, so not the copy's: sizes, layout, compression, palette,
# curves and ranges of grey (TIFF 6.0, sections 8 to 22), tiles and old JPEG, sub-images, page number.
_STRUCTURAL = {
    254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291,
    292, 293, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330, 332, 333, 334, 336, 337, 338, 339, 340,
    341, 342, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 40965,
}  # fmt: skip


def write_tiff(pixels: Plane, source: bytes, words: Words) -> bytes:
    """Encode (H, W) or (H, W, 2 to 4) uint8 or uint16 pixels as TIFF.

    Compressed as `source` is, or by Deflate where that way is lossy (JPEG), for bilevel pictures (CCITT) or rare.

    Raises:
        ImageDecodeError: the tags of `source` are damaged.
    """
    with decode_errors(source, "TIFF"), TiffImagePlugin.TiffImageFile(io.BytesIO(source)) as image:
        tags = _carried_tags(image, pixels, words)
        compression = _compression(int(image.tag_v2.get(TiffImagePlugin.COMPRESSION, _NONE)))
    height, width = pixels.shape[:2]
    count = channels(pixels)
    rows = max(1, _STRIP_BYTES // (width * count * pixels.itemsize))
    strips = [_strip(pixels[top : top + rows], tags, compression) for top in range(0, height, rows)]
    sizes = [len(strip) for strip in strips]
    tags[256], tags[257], tags[258] = width, height, (pixels.itemsize * 8,) * count
    tags[259], tags[262], tags[277], tags[278] = compression, 2 if count > 2 else 1, count, rows
    tags[284] = 1
    if compression in _PREDICTED:
        tags[317] = 2
    if count in (2, 4):
        tags[338] = (2,)  # alpha, not multiplied into the color
    for tag, values in ((273, _starts(sizes)), (279, sizes)):
        tags.tagtype[tag] = 4  # LONG
        tags[tag] = tuple(values)
    out = io.BytesIO()
    tags.save(out)
    return b"".join((out.getvalue(), *strips))


def _compression(own: int) -> int:
    """The copy's compression for the source's."""
    return own if own in (_NONE, _LZW, _PACKBITS, _ZSTD) else _DEFLATE


def _carried_tags(
    image: TiffImagePlugin.TiffImageFile, pixels: Plane, words: Words
) -> TiffImagePlugin.ImageFileDirectory_v2:
    own = image.tag_v2
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=own.prefix)
    exif = image.getexif()
    for tag in list(own):
        value = own.get(tag)  # None where the tag's data is damaged
        if tag == _ICC:
            value = fitting(value, channels(pixels))
        if value is None or tag in _STRUCTURAL or tag == _XMP or (tag == _DESCRIPTION and is_own_sentence(str(value))):
            continue
        tags.tagtype[tag] = own.tagtype[tag]
        tags[tag] = _nested(dict(exif.get_ifd(tag)), pixels) if tag in _NESTED else value
    packet = own.get(_XMP)
    xmp = words.xmp(packet if isinstance(packet, bytes) else None)
    if xmp:
        tags.tagtype[_XMP] = 1  # BYTE
        tags[_XMP] = xmp
    if words.sentence and not str(tags.get(_DESCRIPTION, "")).strip("\0 "):
        tags[_DESCRIPTION] = words.sentence.encode("ascii", "replace").decode()
    return tags


def _nested(directory: dict[int, Any], pixels: Plane) -> dict[int, Any]:
    """An EXIF or GPS directory with the copy's dimensions, where it holds any."""
    sizes = {_PIXEL_X: pixels.shape[1], _PIXEL_Y: pixels.shape[0]}
    return {tag: sizes.get(tag, value) for tag, value in directory.items()}


def _strip(pixels: Plane, tags: TiffImagePlugin.ImageFileDirectory_v2, compression: int) -> bytes:
    """One strip in the file's byte order; where it pays it holds horizontal differences (TIFF 6.0, section 14)."""
    stored = pixels
    if compression in _PREDICTED:
        stored = pixels.copy()
        stored[:, 1:] -= pixels[:, :-1]
    stored = stored.astype(pixels.dtype.newbyteorder("<" if tags.prefix == b"II" else ">"), copy=False)
    if compression == _PACKBITS:  # each row for itself
        return b"".join(imagecodecs.packbits_encode(row.tobytes()) for row in stored)
    data = stored.tobytes()
    if compression == _DEFLATE:
        return zlib.compress(data, _LEVEL)
    encode = {_LZW: imagecodecs.lzw_encode, _ZSTD: imagecodecs.zstd_encode}.get(compression, bytes)
    return bytes(encode(data))


def _starts(sizes: list[int]) -> Iterator[int]:
    position = 0
    for size in sizes:
        yield position
        position += size
