"""TIFF files: true-color pixels at 8 or 16 bits, with the source's own tags carried over.

Pillow writes no 16-bit RGB, so the strips are laid out here (TIFF 6.0); Pillow serializes the tags.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator

from PIL import TiffImagePlugin

from colorize.image_io.formats import decode_errors
from colorize.image_io.metadata import Provenance, is_rgb_profile
from colorize.image_io.picture import Plane

_STRIP_BYTES = 1 << 20
_LEVEL = 3  # of Deflate: scans have grain, which higher levels hardly make smaller
_DEFLATE, _NONE = 8, 1
_DESCRIPTION, _XMP, _ICC = 270, 700, 34675
_NESTED = (34665, 34853)  # EXIF and GPS: directories of their own

# Tags that describe how the source's samples are stored, so not the copy's: sizes, layout, compression, palette,
# curves and ranges of grey (TIFF 6.0, sections 8 to 22), tiles and old JPEG, sub-images, page number.
_STRUCTURAL = {
    254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291,
    292, 293, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330, 332, 333, 334, 336, 337, 338, 339, 340,
    341, 342, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 40965,
}  # fmt: skip


def write_tiff(pixels: Plane, source: bytes, provenance: Provenance | None) -> bytes:
    """Encode (H, W, 3 or 4) uint8 or uint16 pixels as TIFF, compressed (Deflate) where `source` is.

    Raises:
        ImageDecodeError: the tags of `source` are damaged.
    """
    with decode_errors(source, "TIFF"), TiffImagePlugin.TiffImageFile(io.BytesIO(source)) as image:
        tags = _carried_tags(image, provenance)
        compressed = image.tag_v2.get(TiffImagePlugin.COMPRESSION, _NONE) != _NONE
    height, width, channels = pixels.shape
    rows = max(1, _STRIP_BYTES // (width * channels * pixels.itemsize))
    strips = [_strip(pixels[top : top + rows], tags, compressed) for top in range(0, height, rows)]
    sizes = [len(strip) for strip in strips]
    tags[256], tags[257], tags[258] = width, height, (pixels.itemsize * 8,) * channels
    tags[259], tags[262], tags[277], tags[278] = _DEFLATE if compressed else _NONE, 2, channels, rows
    tags[284] = 1
    if compressed:
        tags[317] = 2
    if channels == 4:
        tags[338] = (2,)  # alpha, not multiplied into the color
    for tag, values in ((273, _starts(sizes)), (279, sizes)):
        tags.tagtype[tag] = 4  # LONG
        tags[tag] = tuple(values)
    out = io.BytesIO()
    tags.save(out)
    return b"".join((out.getvalue(), *strips))


def _carried_tags(
    image: TiffImagePlugin.TiffImageFile, provenance: Provenance | None
) -> TiffImagePlugin.ImageFileDirectory_v2:
    own = image.tag_v2
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=own.prefix)
    exif = image.getexif()
    for tag in list(own):
        value = own.get(tag)  # None where the tag's data is damaged
        if value is None or tag in _STRUCTURAL or (tag == _ICC and not is_rgb_profile(value)):
            continue
        tags.tagtype[tag] = own.tagtype[tag]
        tags[tag] = dict(exif.get_ifd(tag)) if tag in _NESTED else value
    if provenance:
        packet = own.get(_XMP)
        tags.tagtype[_XMP] = 1  # BYTE
        tags[_XMP] = provenance.xmp(packet if isinstance(packet, bytes) else None)
        if not str(own.get(_DESCRIPTION, "")).strip("\0 "):
            tags[_DESCRIPTION] = provenance.sentence.encode("ascii", "replace").decode()
    return tags


def _strip(pixels: Plane, tags: TiffImagePlugin.ImageFileDirectory_v2, compressed: bool) -> bytes:
    """One strip in the file's byte order; compressed ones hold horizontal differences (TIFF 6.0, section 14)."""
    stored = pixels.dtype.newbyteorder("<" if tags.prefix == b"II" else ">")
    if not compressed:
        return pixels.astype(stored).tobytes()
    differences = pixels.copy()
    differences[:, 1:] -= pixels[:, :-1]
    return zlib.compress(differences.astype(stored).tobytes(), _LEVEL)


def _starts(sizes: list[int]) -> Iterator[int]:
    position = 0
    for size in sizes:
        yield position
        position += size
