"""TIFF files: grey or true-color pixels with 8 or 16 bits, and the source's tags (TIFF 6.0).

Pillow does not write 16-bit RGB, and tifffile does not write tags of arbitrary types.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO

import imagecodecs

from colorize.imaging.formats import photoshop
from colorize.imaging.formats.decoded_image import DecodedImage, Pixels, Plane, channels
from colorize.imaging.formats.encoded import Encoded
from colorize.imaging.formats.errors import ImageDecodeError
from colorize.imaging.formats.formats import decode_errors
from colorize.imaging.formats.icc import for_components
from colorize.imaging.formats.metadata import MetadataUpdate, is_own_sentence
from colorize.imaging.formats.samples import joined
from colorize.imaging.formats.tiff_tags import (
    BYTE,
    LONG,
    RATIONAL,
    SHORT,
    UNDEFINED,
    Layout,
    Tag,
    encoded,
    layout_of,
    numbers,
    read_tags,
    text,
)

_STRIP_BYTES = 1 << 20
_LEVEL = 3  # of Deflate; higher levels hardly compress grain better
_NONE, _LZW, _DEFLATE, _PACKBITS, _ZSTD = 1, 5, 8, 32773, 50000
_PREDICTED = (_LZW, _DEFLATE, _ZSTD)
_GREY, _RGB = 1, 2  # photometric interpretations: 0 is black, red green blue
_COMPRESSION, _STRIP_OFFSETS, _STRIP_BYTE_COUNTS, _DESCRIPTION, _XMP, _ICC = 259, 273, 279, 270, 700, 34675
_EXIF, _PIXEL_X, _PIXEL_Y, _X_RESOLUTION, _EXTRA = 34665, 0xA002, 0xA003, 282, 338
_UNASSOCIATED = 2

# Tags that describe the source's sample storage: sizes, layout, compression, palette, grey response
# (TIFF 6.0, sections 8 to 22), tiles, old-style JPEG, sub-images.
_STRUCTURAL = {
    254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291,
    292, 293, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330, 332, 333, 334, 336, 337, 338, 339, 340,
    341, 342, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 40965,
}  # fmt: skip
# Tags that are only valid for the source: Photoshop's layers, and a signed claim (C2PA).
_SOURCE_ONLY = {37724, 52545}
_PHOTOSHOP = 34377
_PAGE_KIND = 254
_COLORIMETRY = {318, 319}  # white point and primaries
_OFFSETS_AND_SIZES = {273, 279, 324, 325, 330}  # of strips and tiles, which are rewritten, and SubIFDs
_TILE_OFFSETS, _TILE_BYTE_COUNTS = 324, 325
_HEADER_BYTES = 16  # of BigTIFF; TIFF needs half
_MAX_CLASSIC_BYTES = 2**32 - 1  # maximum size of a TIFF that is not BigTIFF


class TiffWriter:
    """Writes a copy page by page: strips immediately, and directories at the end, when the file's size is known.

    The file becomes BigTIFF if the source is, or if it is too large for 32-bit offsets.
    """

    def __init__(self, out: IO[bytes], source: Encoded) -> None:
        """`out` must be empty and seekable; `source` is the file whose pages are colored or copied."""
        self.out, self.source = out, source
        with decode_errors(source, "TIFF"):
            self.layout = layout_of(source)
        self.pages = list[_Page]()
        out.write(bytes(_HEADER_BYTES))

    def add(self, color: Pixels, image: DecodedImage, update: MetadataUpdate) -> None:
        """Adds a page of color (H, W) or (H, W, 3), alpha and further channels; pixels are read once, strip by strip.

        Uses the source's compression, or Deflate if that is lossy (JPEG), for bilevel images only, or rare.

        Raises:
            ImageDecodeError: the directory of the source is damaged.
        """
        pixels, order = joined(color, image.alpha, image.further), self.layout.order
        source_tags = self._source_tags(image.directory)
        compression = _compression(source_tags, order)
        row_bytes = pixels.shape[1] * channels(pixels) * pixels.itemsize
        rows = min(max(1, _STRIP_BYTES // row_bytes), pixels.shape[0])
        strips = (_strip(pixels[top : top + rows], order, compression) for top in range(0, pixels.shape[0], rows))
        tags = [
            *_copied_tags(source_tags, order, color, update, _dropped_tags(image)),
            *_extra_samples(order, source_tags, image),
        ]
        tags += _layout(order, pixels, channels(color), rows, compression)
        self.pages.append(_Page(tags, _STRIP_OFFSETS, _STRIP_BYTE_COUNTS, *self._write_parts(strips)))

    def copy(self, directory: int, offsets: Sequence[int], sizes: Sequence[int], is_tiled: bool) -> None:
        """Copies a page of the source with its strips or tiles, but without SubIFDs.

        Raises:
            ImageDecodeError: `truncated`.
        """
        source_tags = [tag for tag in self._source_tags(directory) if tag.number not in _OFFSETS_AND_SIZES]
        in_file = (at + size <= len(self.source) for at, size in zip(offsets, sizes, strict=False))
        if len(offsets) != len(sizes) or not all(in_file):
            raise ImageDecodeError("truncated", "TIFF with a page that ends early")
        parts = (self.source[at : at + size] for at, size in zip(offsets, sizes, strict=True))
        numbers = (_TILE_OFFSETS, _TILE_BYTE_COUNTS) if is_tiled else (_STRIP_OFFSETS, _STRIP_BYTE_COUNTS)
        self.pages.append(_Page(source_tags, *numbers, *self._write_parts(parts)))

    def close(self) -> None:
        """Writes the directories and the header."""
        order = self.layout.order
        end = self.out.tell() + sum(page.directory_bytes for page in self.pages)
        layout = Layout(order, self.layout.is_big or end > _MAX_CLASSIC_BYTES)
        link = layout.link
        for page in self.pages:
            self.out.write(bytes(self.out.tell() % 2))
            at = self.out.tell()
            offsets = numbers(order, page.offsets_tag, layout.pointer, page.offsets)
            sizes = numbers(order, page.sizes_tag, layout.pointer, page.sizes)
            data, next_link = encoded(layout, [*page.tags, offsets, sizes], at)
            self.out.write(data)
            self._write_at(link, layout.offset.pack(at))
            link = next_link
        self._write_at(0, layout.header())

    def _source_tags(self, directory: int) -> list[Tag]:
        with decode_errors(self.source, "TIFF"):
            return read_tags(self.source, directory)

    def _write_parts(self, parts: Iterable[bytes]) -> tuple[list[int], list[int]]:
        """Writes strips or tiles; returns their offsets and sizes."""
        offsets, sizes = list[int](), list[int]()
        for part in parts:
            offsets.append(self.out.tell())
            sizes.append(self.out.write(part))
        return offsets, sizes

    def _write_at(self, position: int, data: bytes) -> None:
        self.out.seek(position)
        self.out.write(data)
        self.out.seek(0, os.SEEK_END)


@dataclass(frozen=True, slots=True)
class _Page:
    """A page whose pixels are written: its tags, and the offsets and sizes of its strips or tiles."""

    tags: list[Tag]
    offsets_tag: int
    sizes_tag: int
    offsets: list[int]
    sizes: list[int]

    @property
    def directory_bytes(self) -> int:
        """An upper bound of the size of its directory."""
        return 4096 + 16 * len(self.offsets) + sum(_tag_bytes(tag) for tag in self.tags)


def _tag_bytes(tag: Tag) -> int:
    return 24 + len(tag.data) + sum(map(_tag_bytes, tag.inner))


def _dropped_tags(image: DecodedImage) -> set[int]:
    """Tags that are not copied. The page's kind is kept for several pages, colorimetry for an RGB source."""
    kept = {_PAGE_KIND} if image.info.frames > 1 else set()
    return _STRUCTURAL - kept - (_COLORIMETRY if image.info.mode.startswith("RGB") else set())


def _extra_samples(order: str, source_tags: list[Tag], image: DecodedImage) -> list[Tag]:
    """The ExtraSamples tag: unassociated alpha, and unspecified for further channels."""
    alpha = (_UNASSOCIATED,) if image.alpha is not None else ()
    count = channels(image.further) if image.further is not None else 0
    if not alpha and not any(tag.number == _EXTRA for tag in source_tags):
        return []  # like in the source, so that readers interpret both in the same way
    return [numbers(order, _EXTRA, SHORT, (*alpha, *(0,) * count))] if alpha or count else []


def _compression(source_tags: list[Tag], order: str) -> int:
    """The copy's compression: the source's, if it is lossless for all kinds of pixels."""
    data = next((tag.data for tag in source_tags if tag.number == _COMPRESSION and tag.type == SHORT), b"")
    value = struct.unpack(order + "H", data[:2])[0] if data else _NONE
    return value if value in (_NONE, _LZW, _PACKBITS, _ZSTD) else _DEFLATE


def _layout(order: str, pixels: Pixels, colors: int, rows: int, compression: int) -> list[Tag]:
    """The tags of the copy's sample storage, without the offsets of strips."""
    count, (height, width) = channels(pixels), pixels.shape[:2]
    short = {258: (pixels.itemsize * 8,) * count, 259: (compression,), 262: (_RGB if colors > 2 else _GREY,)}
    short |= {277: (count,), 284: (1,)}
    if compression in _PREDICTED:
        short[317] = (2,)
    long = {256: (width,), 257: (height,), 278: (rows,)}
    return [
        *(numbers(order, number, SHORT, values) for number, values in short.items()),
        *(numbers(order, number, LONG, values) for number, values in long.items()),
    ]


def _copied_tags(
    source_tags: list[Tag], order: str, pixels: Pixels, update: MetadataUpdate, dropped: set[int]
) -> list[Tag]:
    """The source's tags that are valid for the copy, with the update."""
    found = {
        tag.number: _adapted(tag, order, pixels) for tag in source_tags if tag.number not in dropped | _SOURCE_ONLY
    }
    packet = update.xmp(found[_XMP].data if _XMP in found else None)
    found.pop(_XMP, None)
    if packet:
        found[_XMP] = Tag(_XMP, BYTE, packet)
    description = found[_DESCRIPTION].data.decode("ascii", "replace").strip("\0 ") if _DESCRIPTION in found else ""
    if is_own_sentence(description):
        del found[_DESCRIPTION]
        description = ""
    if update.sentence and not description:
        found[_DESCRIPTION] = text(_DESCRIPTION, update.sentence)
    if _X_RESOLUTION not in found:
        found |= _no_resolution(order)
    return [tag for tag in found.values() if tag.data or tag.inner]


def _no_resolution(order: str) -> dict[int, Tag]:
    """Resolution tags without a unit, because TIFF requires these tags."""
    square = struct.pack(order + "II", 1, 1)
    tags = Tag(_X_RESOLUTION, RATIONAL, square), Tag(283, RATIONAL, square), numbers(order, 296, SHORT, (1,))
    return {tag.number: tag for tag in tags}


def _adapted(tag: Tag, order: str, pixels: Pixels) -> Tag:
    """The tag for the copy: a converted color profile, EXIF with new dimensions; other tags unchanged."""
    if tag.number == _ICC:
        return Tag(_ICC, UNDEFINED, for_components(tag.data, channels(pixels)) or b"")
    if tag.number == _PHOTOSHOP:
        return tag._replace(data=b"".join(photoshop.without_thumbnails(tag.data)))
    if tag.number != _EXIF:
        return tag
    sizes = {_PIXEL_X: pixels.shape[1], _PIXEL_Y: pixels.shape[0]}
    inner = (numbers(order, t.number, LONG, (sizes[t.number],)) if t.number in sizes else t for t in tag.inner)
    return tag._replace(inner=tuple(inner))


def _strip(pixels: Plane, order: str, compression: int) -> bytes:
    """One compressed strip in the file's byte order, with horizontal differencing if useful (TIFF 6.0, section 14)."""
    stored = pixels
    if compression in _PREDICTED:
        stored = pixels.copy()
        stored[:, 1:] -= pixels[:, :-1]
    stored = stored.astype(pixels.dtype.newbyteorder("<" if order == "<" else ">"), copy=False)
    if compression == _PACKBITS:  # row by row
        return b"".join(imagecodecs.packbits_encode(row.tobytes()) for row in stored)
    data = stored.tobytes()
    if compression == _DEFLATE:
        return bytes(imagecodecs.deflate_encode(data, _LEVEL))  # libdeflate, which takes half of zlib's time
    encode = {_LZW: imagecodecs.lzw_encode, _ZSTD: imagecodecs.zstd_encode}.get(compression, bytes)
    return bytes(encode(data))
