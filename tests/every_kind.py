"""Images of every supported kind: formats x modes x bit depths x layouts x sizes x orientations, by name."""

from __future__ import annotations

import io
import itertools
import zlib
from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

from colorize.imaging.formats.png import Chunk
from tests.images import photograph, saved

Kind = tuple[str, bytes]
Array = NDArray[Any]
SIZES = [(1, 1), (7, 5), (17, 33), (64, 48), (130, 90)]


def images() -> Iterator[Kind]:
    """Name and content of each."""
    for size in SIZES:
        for name, data in itertools.chain(_jpegs(size), _pngs(size), _tiffs(size), _others(size)):
            yield f"{name} {size[0]}x{size[1]}", data
    yield from _oriented()


def samples(channels: int, bits: int, size: tuple[int, int]) -> Array:
    """A photograph with grain, (H, W) or (H, W, channels): every level of its depth is used."""
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    base = np.asarray(photograph(mode, size)).astype(float)
    if channels in (2, 4):
        base[..., -1] = np.linspace(0, 255, size[0])
    rng = np.random.default_rng(channels * bits)
    scaled = base / 255 * (2**bits - 1) + rng.normal(0, 2**bits / 60, base.shape)
    levels: Array = np.clip(np.rint(scaled), 0, 2**bits - 1)
    return levels.astype(np.uint16 if bits > 8 else np.uint8)


def _jpegs(size: tuple[int, int]) -> Iterator[Kind]:
    toned = ImageOps.colorize(photograph("L", size), (40, 20, 5), (255, 240, 200), mid=(140, 100, 70))
    images = {"grey": photograph("L", size), "color": photograph("RGB", size), "sepia": toned}
    codings: list[dict[str, Any]] = [
        {}, {"quality": 20}, {"quality": 100}, {"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 2},
    ]  # fmt: skip
    for (name, image), options in itertools.product(images.items(), codings):
        yield f"JPEG {name} {options}", saved(image, "JPEG", **options)
    for subsampling in ("4:4:4", "4:2:2"):
        yield f"JPEG color {subsampling}", saved(images["color"], "JPEG", subsampling=subsampling)
    yield "JPEG CMYK", saved(photograph("CMYK", size), "JPEG", quality=95)
    yield "JPEG RGB-coded", saved(images["color"], "JPEG", keep_rgb=True)
    yield "MPO", saved(images["grey"], "MPO", save_all=True, append_images=[images["grey"]])


def _pngs(size: tuple[int, int]) -> Iterator[Kind]:
    for mode in ("1", "L", "P", "LA", "RGB", "RGBA"):
        yield f"PNG {mode}", saved(photograph(mode, size), "PNG")
    for bits in (1, 2, 4):
        yield f"PNG palette of {bits} bits", saved(photograph("P", size).quantize(2**bits), "PNG", bits=bits)
        yield f"PNG grey of {bits} bits", _packed_png(samples(1, bits, size), bits)
    yield "PNG palette with tRNS", saved(photograph("P", size), "PNG", transparency=bytes(range(0, 250, 2)))
    yield "PNG grey with tRNS", saved(photograph("L", size), "PNG", transparency=90)
    yield "PNG RGB with tRNS", saved(photograph("RGB", size), "PNG", transparency=(10, 20, 30))
    for channels in (1, 2, 3, 4):
        yield f"PNG 16 bits, {channels} channels", bytes(imagecodecs.png_encode(samples(channels, 16, size)))


def _packed_png(levels: Array, bits: int) -> bytes:
    """A grey PNG of 1, 2 or 4 bits, which Pillow does not write."""
    height, width = levels.shape
    padded = np.pad(levels, ((0, 0), (0, -width % (8 // bits)))).reshape(height, -1, 8 // bits)
    shifts = np.arange(8 - bits, -1, -bits)
    rows = (padded.astype(int) << shifts).sum(-1).astype(np.uint8)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = np.array([width, height], ">u4").tobytes() + bytes((bits, 0, 0, 0, 0))
    parts = (Chunk(b"IHDR", header), Chunk(b"IDAT", zlib.compress(raw)), Chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk.encoded() for chunk in parts)


def _tiffs(size: tuple[int, int]) -> Iterator[Kind]:
    for mode in ("1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr"):
        yield f"TIFF {mode}", saved(photograph(mode, size), "TIFF")
    for compression in ("group3", "group4", "tiff_ccitt"):
        yield f"TIFF bilevel {compression}", saved(photograph("1", size), "TIFF", compression=compression)
    yield "TIFF JPEG-compressed", saved(photograph("L", size), "TIFF", compression="jpeg")
    pages = [photograph("L", size)] * 2
    yield "TIFF of two pages", saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    for bits, channels in itertools.product((8, 16), (1, 3, 4)):
        yield from _tiff_layouts(samples(channels, bits, size), bits)


def _tiff_layouts(pixels: Array, bits: int) -> Iterator[Kind]:
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    photometric = "minisblack" if channels == 1 else "rgb"
    plain: dict[str, Any] = {"photometric": photometric, "extrasamples": ["unassalpha"] if channels == 4 else None}
    layouts: dict[str, dict[str, Any]] = {
        "": {}, "lzw": {"compression": "lzw", "predictor": True}, "deflate": {"compression": "zlib"},
        "packbits": {"compression": "packbits"}, "tiles": {"tile": (16, 16)},
        "tiles, deflate": {"tile": (32, 32), "compression": "zlib", "predictor": True},
        "big-endian": {"byteorder": ">"}, "BigTIFF": {"bigtiff": True}, "rows": {"rowsperstrip": 3},
    }  # fmt: skip
    if channels == 1:
        layouts["white is zero"] = {"photometric": "miniswhite"}
    else:
        layouts["planes"] = {"planarconfig": "separate"}
    for name, options in layouts.items():
        stored = np.moveaxis(pixels, -1, 0) if "planarconfig" in options else pixels
        yield f"TIFF {bits} bits, {channels} channels {name}", _tiff(stored, {**plain, **options})


def _tiff(pixels: Array, options: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    file = {key: options.pop(key) for key in ("byteorder", "bigtiff") if key in options}
    with tifffile.TiffWriter(out, **file) as writer:
        writer.write(pixels, metadata=None, **options)
    return out.getvalue()


def _others(size: tuple[int, int]) -> Iterator[Kind]:
    for mode in ("L", "RGB", "RGBA"):
        yield f"WEBP {mode}", saved(photograph(mode, size), "WEBP")
    for mode in ("1", "L", "P", "RGB"):
        yield f"BMP {mode}", saved(photograph(mode, size), "BMP")
    for mode in ("L", "LA", "RGB", "RGBA"):
        yield f"JPEG2000 {mode}", saved(photograph(mode, size), "JPEG2000")
    for channels in (1, 3):
        pixels = samples(channels, 16, size)
        encoded = imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat="jp2")
        yield f"JPEG2000 16 bits, {channels} channels", bytes(encoded)
    yield "GIF", saved(photograph("P", size), "GIF")
    yield "PPM 16 bits", b"P5 %d %d 65535\n" % size + samples(1, 16, size).astype(">u2").tobytes()


def _oriented() -> Iterator[Kind]:
    for orientation, format, mode in itertools.product(range(1, 9), ("JPEG", "PNG", "TIFF", "WEBP"), ("L", "RGB")):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"{format} {mode} orientation {orientation}", saved(photograph(mode), format, exif=exif)
