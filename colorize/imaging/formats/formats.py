"""Which image formats are read and written, and opening one: header, limits, and errors with short codes.

Formats read (an explicit allow-list: no other decoder ever sees the bytes, Ghostscript least of all) and what
each is written as:

| read                                   | written as | because |
| -------------------------------------- | ---------- | ------- |
| JPEG, MPO                              | JPEG       | luma coefficients carried over (`jpeg.py`) |
| TIFF (`tiff_reader.py`)                | TIFF       | all pages; lossless, also where the input was lossy |
| PNG, BMP, JPEG 2000, WebP              | the same   | always lossless, also where the input was lossy |
| PGM, PBM, PPM, PNM                     | PNG        | no color in PGM and PBM, no place for metadata in any |
| GIF, AVIF, PSD, TGA, PCX, QOI, SGI, SUN | PNG       | no true color, lossy, or not written by Pillow |

Of a file with several frames only the first is read (`ImageInfo.frames` tells how many there are), but for TIFF.
32-bit integer and float samples are refused as `unsupported`: they have no agreed white, so no grey image to give
color to. So are a camera's raw files: their first image is a preview.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PcxImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    PsdImagePlugin,
    QoiImagePlugin,
    SgiImagePlugin,
    SunImagePlugin,
    TgaImagePlugin,
    WebPImagePlugin,
)

from colorize.imaging.formats.encoded import Encoded, opened, whole
from colorize.imaging.formats.errors import ImageDecodeError
from colorize.imaging.formats.jpeg_stream import frame_marker
from colorize.imaging.formats.png_sound import sound
from colorize.imaging.formats.ppm import largest_sample

# TGA comes last: it has no signature, so it would claim other formats' files. TIFF is not among them (`tiff_reader`).
_PLUGINS = (
    JpegImagePlugin, PngImagePlugin, WebPImagePlugin, BmpImagePlugin, Jpeg2KImagePlugin,
    GifImagePlugin, PpmImagePlugin, AvifImagePlugin, PsdImagePlugin, SgiImagePlugin, SunImagePlugin,
    PcxImagePlugin, QoiImagePlugin, TgaImagePlugin,
)  # fmt: skip
DECODERS = (
    "JPEG", "PNG", "WEBP", "BMP", "JPEG2000", "GIF", "PPM", "AVIF", "PSD", "SGI", "SUN", "PCX", "QOI", "TGA"
)  # fmt: skip

# What names of such files end in; the plugin that registers MPO's is loaded by JPEG's only once it meets one.
IMAGE_SUFFIXES = frozenset(
    {".mpo", ".tif", ".tiff", *(suffix for suffix, format in Image.EXTENSION.items() if format in DECODERS)}
)

# Formats that are written as they came, and MPO as JPEG; the rest becomes PNG.
_WRITTEN = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "JPEG2000")

# Signatures of files that are images, or hold some, and are not for this program: a clearer word than "no image".
_REFUSED = {
    b"%!PS": "PostScript", b"\xc5\xd0\xd3\xc6": "EPS", b"%PDF": "PDF", b"DDS ": "DDS texture",
    b"BLP": "BLP texture", b"\xd7\xcd\xc6\x9a": "WMF", b"icns": "ICNS icon", b"\x00\x00\x01\x00": "ICO icon",
    b"\x00\x00\x02\x00": "CUR cursor", b"SIMPLE  =": "FITS", b"\xd0\xcf\x11\xe0": "OLE container (FPX, MIC)",
    b"PF\n": "PFM (float samples)", b"Pf\n": "PFM (float samples)", b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL", b"gimp xcf": "XCF", b"FTEX": "FTEX texture",
}  # fmt: skip

RAW = "a camera's or film scanner's raw file is not read: develop it, and export it as TIFF with 16 bits"
_RAW_SIGNATURES = (b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"ARRI")
_RAW_BRANDS = (b"crx ",)  # CR3

_END_MARKS = {
    "JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND", "GIF": b";", "JPEG2000": b"\xff\xd9",
}  # fmt: skip


_LOSSLESS_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF)  # and hierarchical ones


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an image file's header says.

    `format` is Pillow's name; `mode` Pillow's mode, with ";16" where the samples have 16 bits ("I;16", "RGB;16");
    `width` and `height` are as stored, before `orientation` (EXIF, 1 to 8) is applied; `bits` is 8 or 16; `frames`
    counts the frames or pages, of which only those of TIFF are colored beyond the first; `note` is a sentence about
    what was amiss and is no fault, or empty.
    """

    format: str
    mode: str
    width: int
    height: int
    bits: int
    orientation: int
    frames: int
    note: str = ""

    @property
    def output_format(self) -> str:
        """The format the colored image is written in."""
        return output_format(self.format)


def output_format(format: str) -> str:
    """The format that an image of this format is written in: its own, or else PNG (table above)."""
    if format == "MPO":
        return "JPEG"
    return format if format in _WRITTEN else "PNG"


NAME_BYTES = 255  # of a file's name, on all common file systems
BYTE_LIMIT = "limits.max_bytes"  # what the message of a file that was not read at all names
ADDED_SUFFIX = ".png"  # of copies whose source's format cannot hold color


def output_name(name: str, format: str, taken: bool = False) -> str:
    """Name for the colored copy of the file `name` with content of `format`; folders are kept.

    The name stays as it is, an unusual or wrong suffix included, unless the format cannot hold color or is not
    written: then `.png` is appended. It replaces nothing, so that `a.gif` and `a.png` of one folder do not meet. Where
    that name is `taken` by another source, `.colorized.png` is appended.

    >>> output_name("1931/a.JPEG", "JPEG"), output_name("1931/a.gif", "GIF"), output_name("scan", "TIFF")
    ('1931/a.JPEG', '1931/a.gif.png', 'scan')
    """
    kept = output_format(format) != "PNG" or format == "PNG" or name.lower().endswith(ADDED_SUFFIX)
    if kept:
        return name
    return fitting_name(name, f".colorized{ADDED_SUFFIX}" if taken else ADDED_SUFFIX)


def disk_name(name: str) -> str:
    """`name` where it can be a file's on disk; else without the empty parts of a bucket's key, which a hash stands for.

    >>> disk_name("1931/a.jpg"), disk_name("1931//a.jpg")
    ('1931/a.jpg', '1931/a~845540d7ade6.jpg')
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if "/".join(parts) == name:
        return name
    stem, suffix = posixpath.splitext("/".join(parts))
    return f"{stem}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}{suffix}"


def fitting_name(name: str, suffix: str) -> str:
    """`name` with a suffix more. Where that is too long for file systems, its end gives way to a hash of all of it."""
    folder, slash, base = name.rpartition("/")
    if len(os.fsencode(base + suffix)) <= NAME_BYTES:
        return name + suffix
    mark = f"~{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}"
    kept = os.fsencode(base)[: NAME_BYTES - len(os.fsencode(suffix)) - len(mark)]
    return f"{folder}{slash}{kept.decode(errors='ignore')}{mark}{suffix}"


@contextmanager
def decode_errors(data: Encoded, format: str) -> Iterator[None]:
    """Turn whatever a decoder raises for damaged `data` into `ImageDecodeError`; keep its warnings quiet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImageDecodeError:
        raise
    except Image.DecompressionBombError as e:
        raise ImageDecodeError("too_large", f"{format}: {e} limits.max_pixels does not raise this one.") from e
    except Exception as e:  # decoders of damaged files raise anything: OSError, SyntaxError, KeyError, struct.error
        code = "truncated" if _ends_early(data, format, e) else "unreadable"
        if isinstance(e, SyntaxError) and "cannot handle" in str(e):  # 12-bit JPEG
            code = "unsupported"
        if "unsupported" in str(e).lower():
            raise ImageDecodeError("unsupported", f"{format}: {e}; convert it to PNG or TIFF first") from e
        raise ImageDecodeError(code, f"{format} file of {len(data)} bytes: {e or type(e).__name__}") from e


@contextmanager
def open_image(data: Encoded) -> Iterator[ImageFile.ImageFile]:
    """Open `data` with the first decoder of the allow-list that accepts it: header read, pixels not decoded.

    The plugins are called directly because `Image.open` applies a global limit.

    Raises:
        ImageDecodeError: `empty`, `not_an_image`, `unsupported`, `truncated` or `unreadable`.
    """
    if len(data) == 0:
        raise ImageDecodeError("empty", "the file has 0 bytes")
    prefix = data[:16]
    failure: ImageDecodeError | None = None
    for format in DECODERS:
        factory, accept = Image.OPEN[format]
        if accept is not None and accept(prefix) is not True:
            continue
        with opened(sound(data) if format == "PNG" else data) as file:
            try:
                with decode_errors(data, format):
                    _require_known(data, format)
                    image = factory(file, "")
            except ImageDecodeError as e:
                failure = failure or (e if accept is not None else None)
                continue
            with image:
                yield image
            return
    raise failure or _refusal(data)


def _require_known(data: Encoded, format: str) -> None:
    """Refuse kinds of a format that its decoder would call damaged, with what to do about it."""
    if format == "PSD":
        version, depth = int.from_bytes(data[4:6], "big"), int.from_bytes(data[22:24], "big")
        if version != 1 or depth not in (1, 8):
            kind = "PSB" if version == 2 else f"PSD with {depth} bits a sample"
            raise ImageDecodeError("unsupported", f"{kind} is not read: export it as TIFF")
    if format == "JPEG" and (marker := frame_marker(whole(data))) in _LOSSLESS_FRAMES:
        raise ImageDecodeError(
            "unsupported", f"lossless JPEG (frame {marker:X}) is not read: convert it to PNG or TIFF"
        )


def describe(image: ImageFile.ImageFile, data: Encoded) -> ImageInfo:
    """`ImageInfo` of an opened image whose pixels have not been loaded yet."""
    format = image.format or ""
    with decode_errors(data, format):
        width, height = image.size
        bits = sample_bits(image, data)
        mode = f"{image.mode};16" if bits == 16 and not image.mode.startswith("I") else image.mode
        return ImageInfo(
            format=format,
            mode=mode,
            width=width,
            height=height,
            bits=bits,
            orientation=_orientation(image),
            frames=int(getattr(image, "n_frames", 1)),
        )


def check_bytes(size: int, max_bytes: int) -> None:
    """Refuse a file of `size` bytes before it is read, as `too_large`, if it has more than `max_bytes`."""
    if size > max_bytes:
        raise ImageDecodeError(
            "too_large",
            f"{size:,} bytes, the limit is {max_bytes:,}: raise {BYTE_LIMIT} if the image is genuine",
        )


def check_pixels(info: ImageInfo, max_pixels: int) -> None:
    """Refuse an image that would decode to more than `max_pixels`, as `too_large`."""
    pixels = info.width * info.height
    if pixels > max_pixels:
        raise ImageDecodeError(
            "too_large",
            f"{info.width} x {info.height} = {pixels:,} pixels, the limit is {max_pixels:,}: "
            "raise limits.max_pixels if the image is genuine",
        )


def sample_bits(image: ImageFile.ImageFile, data: Encoded) -> int:
    """8 or 16: the depth at which the image is decoded and written.

    Raises:
        ImageDecodeError: `unsupported`, for 32-bit integer and float samples.
    """
    if image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I"):
        return 16
    if image.mode in ("I", "F"):
        kind = "float" if image.mode == "F" else "32-bit integer"
        raise ImageDecodeError("unsupported", f"{image.format} with {kind} samples: convert it to 16 bits first")
    if image.mode not in ("RGB", "RGBA", "RGBX", "LA"):
        return 8
    return 16 if stored_bits(image, data) > 8 else 8


def stored_bits(image: ImageFile.ImageFile, data: Encoded) -> int:
    """Bits a sample in the file, where Pillow's mode hides them (it reads 16-bit RGB as 8-bit RGB)."""
    if image.format == "PNG":
        return data[24:25][0]
    if image.format == "PPM":
        return 16 if largest_sample(image) > 255 else 8
    if image.format == "JPEG2000":
        held = whole(data)
        codestream = held.find(b"\xff\x4f\xff\x51")  # SOC, SIZ; the precision is the first byte after Csiz
        return (held[codestream + 42] & 0x7F) + 1
    return 8


def _orientation(image: ImageFile.ImageFile) -> int:
    try:
        value = Image.Image.getexif(image).get(274, 1)  # the PNG plugin's own method decodes the pixels
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _ends_early(data: Encoded, format: str, error: Exception) -> bool:
    words = str(error).lower()
    if isinstance(error, EOFError) or "truncated" in words or "not enough" in words or "end of file" in words:
        return True
    if format == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    mark = _END_MARKS.get(format)
    return mark is not None and mark not in data[-64:]


def _refusal(data: Encoded) -> ImageDecodeError:
    if data[:16].startswith(_RAW_SIGNATURES) or data[6:14] == b"HEAPCCDR" or data[8:12] in _RAW_BRANDS:
        return ImageDecodeError("unsupported", RAW)
    for signature, name in _REFUSED.items():
        if data[: len(signature)] == signature:
            return ImageDecodeError("unsupported", f"{name} is not a format that can be colored")
    if data[4:8] == b"ftyp":
        brand = data[8:12].decode("latin-1")
        return ImageDecodeError("unsupported", f"a media file of brand {brand!r} (HEIF or video) is not read")
    return ImageDecodeError("not_an_image", f"no known image format ({len(data)} bytes)")
