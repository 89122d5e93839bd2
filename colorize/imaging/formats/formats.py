"""Supported image formats, output names, limits, and opening of images.

Formats that are read (an explicit allow-list: no other decoder, such as Ghostscript, is ever used) and written:

| read                                   | written as | because |
| -------------------------------------- | ---------- | ------- |
| JPEG, MPO                              | JPEG       | luma coefficients are copied (`jpeg.py`) |
| TIFF (`tiff_reader.py`)                | TIFF       | all pages; lossless, even if the input was lossy |
| PNG, BMP, JPEG 2000, WebP              | the same   | lossless, even if the input was lossy |
| PGM, PBM, PPM, PNM                     | PNG        | PGM and PBM have no color, none has metadata |
| GIF, AVIF, PSD, TGA, PCX, QOI, SGI, SUN | PNG       | no true color, lossy, or not written by Pillow |

Except for TIFF, only the first of several frames is read (`ImageInfo.frames` is their number). 32-bit integer and float
samples are `unsupported`, because they have no defined white. So are camera raw files, whose first image is a preview.
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
from colorize.imaging.formats.png_cleanup import without_bad_chunks
from colorize.imaging.formats.ppm import largest_sample

# TGA is last, because it has no signature and would accept files of other formats. TIFF is read by `tiff_reader`.
_PLUGINS = (
    JpegImagePlugin, PngImagePlugin, WebPImagePlugin, BmpImagePlugin, Jpeg2KImagePlugin,
    GifImagePlugin, PpmImagePlugin, AvifImagePlugin, PsdImagePlugin, SgiImagePlugin, SunImagePlugin,
    PcxImagePlugin, QoiImagePlugin, TgaImagePlugin,
)  # fmt: skip
DECODERS = (
    "JPEG", "PNG", "WEBP", "BMP", "JPEG2000", "GIF", "PPM", "AVIF", "PSD", "SGI", "SUN", "PCX", "QOI", "TGA"
)  # fmt: skip

# File name suffixes. MPO is explicit, because the JPEG plugin only loads its plugin when it finds an MPO file.
IMAGE_SUFFIXES = frozenset(
    {".mpo", ".tif", ".tiff", *(suffix for suffix, format in Image.EXTENSION.items() if format in DECODERS)}
)

# Formats that are kept; MPO becomes JPEG, all others PNG.
_WRITTEN = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "JPEG2000")

# Signatures of image files that are not supported, for a clearer message.
_UNSUPPORTED = {
    b"%!PS": "PostScript", b"\xc5\xd0\xd3\xc6": "EPS", b"%PDF": "PDF", b"DDS ": "DDS texture",
    b"BLP": "BLP texture", b"\xd7\xcd\xc6\x9a": "WMF", b"icns": "ICNS icon", b"\x00\x00\x01\x00": "ICO icon",
    b"\x00\x00\x02\x00": "CUR cursor", b"SIMPLE  =": "FITS", b"\xd0\xcf\x11\xe0": "OLE container (FPX, MIC)",
    b"PF\n": "PFM (float samples)", b"Pf\n": "PFM (float samples)", b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL", b"gimp xcf": "XCF", b"FTEX": "FTEX texture",
}  # fmt: skip

RAW = "camera and film scanner raw files are not supported: develop them and export 16-bit TIFFs"
_RAW_SIGNATURES = (b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"ARRI")
_RAW_BRANDS = (b"crx ",)  # CR3

_END_MARKERS = {
    "JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND", "GIF": b";", "JPEG2000": b"\xff\xd9",
}  # fmt: skip


_LOSSLESS_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF)  # and hierarchical ones


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """The header of an image file.

    Attributes:
        format: Pillow's name.
        mode: Pillow's mode, with ";16" for 16-bit samples ("I;16", "RGB;16").
        width: as stored, before `orientation` is applied.
        height: as stored.
        bits: 8 or 16.
        orientation: EXIF, 1 to 8.
        frames: number of frames or pages, of which only the first is colored except for TIFF.
        note: a sentence about an irregularity that is not an error, or "".
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
    """The output format for images of a format (see the table above)."""
    if format == "MPO":
        return "JPEG"
    return format if format in _WRITTEN else "PNG"


NAME_BYTES = 255  # maximum length of a file name on common file systems
BYTE_LIMIT = "limits.max_bytes"  # in the message of a file that was not read because of its size
ADDED_SUFFIX = ".png"  # appended if the source's format is not written


def output_name(name: str, format: str, taken: bool = False) -> str:
    """The name of the colored copy of the file `name` with content of `format`, including its folders.

    The name is kept, even with a wrong suffix, unless the format is not written: then `.png` is appended. The suffix
    is not replaced, so that `a.gif` and `a.png` have different outputs. If that name is `taken` by another source,
    `.colorized.png` is appended.

    >>> output_name("1931/a.JPEG", "JPEG"), output_name("1931/a.gif", "GIF"), output_name("scan", "TIFF")
    ('1931/a.JPEG', '1931/a.gif.png', 'scan')
    """
    kept = output_format(format) != "PNG" or format == "PNG" or name.lower().endswith(ADDED_SUFFIX)
    if kept:
        return name
    return append_suffix(name, f".colorized{ADDED_SUFFIX}" if taken else ADDED_SUFFIX)


def disk_name(name: str) -> str:
    """`name` if it is a valid path; otherwise the key of a bucket without its empty parts and with a hash.

    >>> disk_name("1931/a.jpg"), disk_name("1931//a.jpg")
    ('1931/a.jpg', '1931/a~845540d7ade6.jpg')
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if "/".join(parts) == name:
        return name
    stem, suffix = posixpath.splitext("/".join(parts))
    return f"{stem}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}{suffix}"


def append_suffix(name: str, suffix: str) -> str:
    """`name` with an appended suffix; if it is too long for file systems, its end is replaced by a hash."""
    folder, slash, base = name.rpartition("/")
    if len(os.fsencode(base + suffix)) <= NAME_BYTES:
        return name + suffix
    mark = f"~{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}"
    kept = os.fsencode(base)[: NAME_BYTES - len(os.fsencode(suffix)) - len(mark)]
    return f"{folder}{slash}{kept.decode(errors='ignore')}{mark}{suffix}"


@contextmanager
def decode_errors(data: Encoded, format: str) -> Iterator[None]:
    """Convert any exception of a decoder to `ImageDecodeError`; suppress warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImageDecodeError:
        raise
    except Image.DecompressionBombError as e:
        raise ImageDecodeError("too_large", f"{format}: {e} limits.max_pixels does not raise this one.") from e
    except Exception as e:  # decoders may raise anything: OSError, SyntaxError, KeyError, struct.error
        code = "truncated" if _is_truncated(data, format, e) else "unreadable"
        if isinstance(e, SyntaxError) and "cannot handle" in str(e):  # 12-bit JPEG
            code = "unsupported"
        if "unsupported" in str(e).lower():
            raise ImageDecodeError("unsupported", f"{format}: {e}; convert it to PNG or TIFF first") from e
        raise ImageDecodeError(code, f"{format} file of {len(data)} bytes: {e or type(e).__name__}") from e


@contextmanager
def open_image(data: Encoded) -> Iterator[ImageFile.ImageFile]:
    """Open `data` with the first decoder of the allow-list that accepts it, without decoding pixels.

    Calls the plugins directly, because `Image.open` has a global limit on pixels.

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
        with opened(without_bad_chunks(data) if format == "PNG" else data) as file:
            try:
                with decode_errors(data, format):
                    _check_variant(data, format)
                    image = factory(file, "")
            except ImageDecodeError as e:
                failure = failure or (e if accept is not None else None)
                continue
            with image:
                yield image
            return
    raise failure or _unsupported(data)


def _check_variant(data: Encoded, format: str) -> None:
    """Refuse unsupported variants of a format, which its decoder would report as damaged."""
    if format == "PSD":
        version, depth = int.from_bytes(data[4:6], "big"), int.from_bytes(data[22:24], "big")
        if version != 1 or depth not in (1, 8):
            kind = "PSB" if version == 2 else f"PSD with {depth} bits per sample"
            raise ImageDecodeError("unsupported", f"{kind} is not supported: export it as TIFF")
    if format == "JPEG" and (marker := frame_marker(whole(data))) in _LOSSLESS_FRAMES:
        raise ImageDecodeError(
            "unsupported", f"lossless JPEG (frame {marker:X}) is not supported: convert it to PNG or TIFF"
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
    """The bits per sample for decoding and encoding the image: 8 or 16.

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
    """The bits per sample in the file, which Pillow's mode does not show (it reads 16-bit RGB as 8-bit RGB)."""
    if image.format == "PNG":
        return data[24:25][0]
    if image.format == "PPM":
        return 16 if largest_sample(image) > 255 else 8
    if image.format == "JPEG2000":
        content = whole(data)
        codestream = content.find(b"\xff\x4f\xff\x51")  # SOC, SIZ; the precision is the first byte after Csiz
        return (content[codestream + 42] & 0x7F) + 1
    return 8


def _orientation(image: ImageFile.ImageFile) -> int:
    try:
        value = Image.Image.getexif(image).get(274, 1)  # the PNG plugin's method would decode the pixels
    except Exception:  # the EXIF block may be damaged
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _is_truncated(data: Encoded, format: str, error: Exception) -> bool:
    message = str(error).lower()
    if isinstance(error, EOFError) or "truncated" in message or "not enough" in message or "end of file" in message:
        return True
    if format == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    mark = _END_MARKERS.get(format)
    return mark is not None and mark not in data[-64:]


def _unsupported(data: Encoded) -> ImageDecodeError:
    if data[:16].startswith(_RAW_SIGNATURES) or data[6:14] == b"HEAPCCDR" or data[8:12] in _RAW_BRANDS:
        return ImageDecodeError("unsupported", RAW)
    for signature, name in _UNSUPPORTED.items():
        if data[: len(signature)] == signature:
            return ImageDecodeError("unsupported", f"{name} is not a format that can be colored")
    if data[4:8] == b"ftyp":
        brand = data[8:12].decode("latin-1")
        return ImageDecodeError("unsupported", f"media files of brand {brand!r} (HEIF or video) are not supported")
    return ImageDecodeError("not_an_image", f"no known image format ({len(data)} bytes)")
