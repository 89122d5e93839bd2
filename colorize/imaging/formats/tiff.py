"""TIFF files: grey or true-color pixels at 8 or 16 bits, with the source's own tags carried over.

Pillow writes no 16-bit RGB, so the strips are laid out here (TIFF 6.0). Only the first page is written.
"""

from __future__ import annotations

import struct
from typing import IO

import imagecodecs

from colorize.imaging.formats.encoded import Encoded
from colorize.imaging.formats.formats import decode_errors
from colorize.imaging.formats.icc import fitting
from colorize.imaging.formats.metadata import Words, is_own_sentence
from colorize.imaging.formats.picture import Pixels, Plane, channels
from colorize.imaging.formats.tiff_tags import (
    BYTE,
    LONG,
    RATIONAL,
    SHORT,
    UNDEFINED,
    Tag,
    byte_order,
    encoded,
    header,
    numbers,
    read_tags,
    text,
)

_STRIP_BYTES = 1 << 20
_LEVEL = 3  # of Deflate: scans have grain, which higher levels hardly make smaller
_NONE, _LZW, _DEFLATE, _PACKBITS, _ZSTD = 1, 5, 8, 32773, 50000
_PREDICTED = (_LZW, _DEFLATE, _ZSTD)
_GREY, _RGB = 1, 2  # photometric interpretations: 0 is black, red green blue
_COMPRESSION, _STARTS, _SIZES, _DESCRIPTION, _XMP, _ICC = 259, 273, 279, 270, 700, 34675
_EXIF, _PIXEL_X, _PIXEL_Y, _X_RESOLUTION = 34665, 0xA002, 0xA003, 282

# Tags that describe how the source's samples are stored, so not the copy's: sizes, layout, compression, palette,
# curves and ranges of grey (TIFF 6.0, sections 8 to 22), tiles and old JPEG, sub-images, page number.
_STRUCTURAL = {
    254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291,
    292, 293, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330, 332, 333, 334, 336, 337, 338, 339, 340,
    341, 342, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 40965,
}  # fmt: skip


def write_tiff(out: IO[bytes], pixels: Pixels, source: Encoded, words: Words) -> None:
    """Encode (H, W) or (H, W, 2 to 4) uint8 or uint16 pixels as TIFF; they are read once, a strip at a time.

    `out` is empty and seekable.

    Compressed as `source` is, or by Deflate where that way is lossy (JPEG), for bilevel pictures (CCITT) or rare.

    Raises:
        ImageDecodeError: the directory of `source` is damaged.
    """
    order = byte_order(source)
    with decode_errors(source, "TIFF"):
        own = read_tags(source)
    compression = _compression(own, order)
    row_bytes = pixels.shape[1] * channels(pixels) * pixels.itemsize
    rows = min(max(1, _STRIP_BYTES // row_bytes), pixels.shape[0])
    out.write(header(order, 0))
    starts, sizes = list[int](), list[int]()
    for top in range(0, pixels.shape[0], rows):
        starts.append(out.tell())
        sizes.append(out.write(_strip(pixels[top : top + rows], order, compression)))
    tags = [*_carried(own, order, pixels, words), *_layout(order, pixels, rows, compression)]
    tags += [numbers(order, _STARTS, LONG, starts), numbers(order, _SIZES, LONG, sizes)]
    out.write(bytes(out.tell() % 2))
    end = out.tell()
    out.write(encoded(order, tags, end))
    out.seek(0)
    out.write(header(order, end))


def _compression(own: list[Tag], order: str) -> int:
    """The copy's compression: the source's, where it keeps every pixel of any kind."""
    data = next((tag.data for tag in own if tag.number == _COMPRESSION and tag.type == SHORT), b"")
    value = struct.unpack(order + "H", data[:2])[0] if data else _NONE
    return value if value in (_NONE, _LZW, _PACKBITS, _ZSTD) else _DEFLATE


def _layout(order: str, pixels: Pixels, rows: int, compression: int) -> list[Tag]:
    """The tags that say how the copy's samples are stored, but for the places of the strips."""
    count, (height, width) = channels(pixels), pixels.shape[:2]
    short = {258: (pixels.itemsize * 8,) * count, 259: (compression,), 262: (_RGB if count > 2 else _GREY,)}
    short |= {277: (count,), 284: (1,)}
    if compression in _PREDICTED:
        short[317] = (2,)
    if count in (2, 4):
        short[338] = (2,)  # alpha, not multiplied into the color
    long = {256: (width,), 257: (height,), 278: (rows,)}
    return [
        *(numbers(order, number, SHORT, values) for number, values in short.items()),
        *(numbers(order, number, LONG, values) for number, values in long.items()),
    ]


def _carried(own: list[Tag], order: str, pixels: Pixels, words: Words) -> list[Tag]:
    """The source's tags that hold for the copy too, and the words."""
    found = {tag.number: _adapted(tag, order, pixels) for tag in own if tag.number not in _STRUCTURAL}
    packet = words.xmp(found[_XMP].data if _XMP in found else None)
    found.pop(_XMP, None)
    if packet:
        found[_XMP] = Tag(_XMP, BYTE, packet)
    description = found[_DESCRIPTION].data.decode("ascii", "replace").strip("\0 ") if _DESCRIPTION in found else ""
    if is_own_sentence(description):
        del found[_DESCRIPTION]
        description = ""
    if words.sentence and not description:
        found[_DESCRIPTION] = text(_DESCRIPTION, words.sentence)
    if _X_RESOLUTION not in found:
        found |= _no_resolution(order)
    return [tag for tag in found.values() if tag.data or tag.inner]


def _no_resolution(order: str) -> dict[int, Tag]:
    """Resolution tags that tell no unit: TIFF demands some of every file."""
    square = struct.pack(order + "II", 1, 1)
    tags = Tag(_X_RESOLUTION, RATIONAL, square), Tag(283, RATIONAL, square), numbers(order, 296, SHORT, (1,))
    return {tag.number: tag for tag in tags}


def _adapted(tag: Tag, order: str, pixels: Pixels) -> Tag:
    """A profile for the copy's kind of pixels, and EXIF with its dimensions; any other tag as it is."""
    if tag.number == _ICC:
        return Tag(_ICC, UNDEFINED, fitting(tag.data, channels(pixels)) or b"")
    if tag.number != _EXIF:
        return tag
    sizes = {_PIXEL_X: pixels.shape[1], _PIXEL_Y: pixels.shape[0]}
    inner = (numbers(order, t.number, LONG, (sizes[t.number],)) if t.number in sizes else t for t in tag.inner)
    return tag._replace(inner=tuple(inner))


def _strip(pixels: Plane, order: str, compression: int) -> bytes:
    """One strip in the file's byte order; where it pays it holds horizontal differences (TIFF 6.0, section 14)."""
    stored = pixels
    if compression in _PREDICTED:
        stored = pixels.copy()
        stored[:, 1:] -= pixels[:, :-1]
    stored = stored.astype(pixels.dtype.newbyteorder("<" if order == "<" else ">"), copy=False)
    if compression == _PACKBITS:  # each row for itself
        return b"".join(imagecodecs.packbits_encode(row.tobytes()) for row in stored)
    data = stored.tobytes()
    if compression == _DEFLATE:
        return bytes(imagecodecs.deflate_encode(data, _LEVEL))  # libdeflate: half of zlib's time
    encode = {_LZW: imagecodecs.lzw_encode, _ZSTD: imagecodecs.zstd_encode}.get(compression, bytes)
    return bytes(encode(data))
