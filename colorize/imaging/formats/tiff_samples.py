"""Converts the stored samples of a TIFF page to grey or RGB with black at 0, alpha, and further channels.

Photometric interpretations and extra samples as in TIFF 6.0 (sections 4, 16 to 18 and 20 to 23) and its supplements. An
extra sample is only alpha if the file says so; a film scanner's infrared is kept as a further channel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, ImageCms

from colorize.imaging.formats.decoded_image import Pixels, Plane, Rows
from colorize.imaging.formats.errors import ImageDecodeError
from colorize.imaging.formats.samples import luma_of
from colorize.imaging.formats.tiff_rows import needs_libtiff

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _SEPARATED, _YCBCR, _CIELAB, _ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
_COLORS = {
    _WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _SEPARATED: 4, _YCBCR: 3, _CIELAB: 3, _ICCLAB: 3,
}  # fmt: skip
_NAMES = {
    _WHITE_IS_ZERO: "L", _BLACK_IS_ZERO: "L", _RGB: "RGB", _PALETTE: "P", _SEPARATED: "CMYK", _YCBCR: "YCbCr",
    _CIELAB: "LAB", _ICCLAB: "LAB",
}  # fmt: skip
_ASSOCIATED, _UNASSOCIATED = 1, 2
_EXTRA_SAMPLES, _INK_SET = 338, 332
_JPEGS = (6, 7, 34892, 33007, 50001)  # compressions whose decoders convert YCbCr to RGB: JPEG and WebP
Convert = Callable[[Plane], Plane]


@dataclass(frozen=True, slots=True)
class Interpretation:
    """The interpretation of a page's samples."""

    mode: str  # like Pillow's
    bits: int  # of the converted samples, 8 or 16
    colors: int  # number of color samples, before the extra ones
    convert: Convert  # color samples to grey (H, W, 1) or RGB (H, W, 3)
    luma: Convert  # color samples to luminance (H, W)
    channels: int  # of the output of `convert`
    alpha: int | None  # index of alpha
    is_premultiplied: bool
    others: tuple[int, ...]  # indices of further channels
    depth: int  # bits of a stored sample

    def color(self, stored: Pixels) -> Rows:
        """Grey or RGB, (H, W, 1 or 3), without alpha."""
        return Rows((*stored.shape[:2], self.channels), self.dtype, lambda rows: self._straight(stored[rows]))

    def luminance(self, stored: Pixels) -> Rows:
        """Luma, (H, W)."""
        if self.is_premultiplied:
            return Rows(stored.shape[:2], self.dtype, lambda rows: luma_of(self._straight(stored[rows])))
        return Rows(stored.shape[:2], self.dtype, lambda rows: self.luma(stored[rows][..., : self.colors]))

    def opacity(self, stored: Pixels) -> Rows | None:
        """Alpha, (H, W), or None."""
        alpha = self.alpha
        if alpha is None:
            return None
        return Rows(stored.shape[:2], self.dtype, lambda rows: self._extra(stored[rows][..., alpha]))

    def further(self, stored: Pixels) -> Rows | None:
        """Further channels, (H, W, n), or None."""
        if not self.others:
            return None
        places = list(self.others)
        shape = (*stored.shape[:2], len(places))
        return Rows(shape, self.dtype, lambda rows: self._extra(stored[rows][..., places]))

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        return np.dtype(f"u{self.bits // 8}")

    def _straight(self, stored: Plane) -> Plane:
        color = self.convert(stored[..., : self.colors])
        if not self.is_premultiplied or self.alpha is None:
            return color
        return unassociated(color, self._extra(stored[..., self.alpha]))

    def _extra(self, samples: Plane) -> Plane:
        """An extra sample, converted to the depth of the color."""
        scaled = _scaled(samples, self.depth, invert=False)
        return (scaled >> 8).astype(np.uint8) if scaled.dtype.itemsize * 8 > self.bits else scaled


def interpretation(page: tifffile.TiffPage) -> Interpretation:
    """The interpretation of the samples of a page.

    Raises:
        ImageDecodeError: `unsupported`, for color spaces without a defined conversion to RGB, or with too few samples.
    """
    photometric, count = int(page.photometric), int(page.samplesperpixel)
    if photometric not in _COLORS:
        raise ImageDecodeError(
            "unsupported", f"TIFF with photometric interpretation {photometric}: convert it to RGB first"
        )
    if photometric == _SEPARATED and page.tags.valueof(_INK_SET, 1) != 1:
        raise ImageDecodeError("unsupported", "TIFF with inks other than CMYK: convert it to RGB first")
    if needs_libtiff(page) and photometric == _YCBCR:
        photometric, count = _RGB, 3
    elif photometric == _YCBCR and page.compression in _JPEGS and page.planarconfig == 1:
        photometric = _RGB
    colors = 1 if count == 1 and photometric in (_CIELAB, _ICCLAB) else _COLORS[photometric]
    if count < colors:
        raise ImageDecodeError(
            "unsupported", f"TIFF of {_NAMES[photometric]} with {count} samples: convert it to RGB first"
        )
    extra = _extra_samples(page, count - colors)
    alpha = next((i for i, role in enumerate(extra) if role in (_ASSOCIATED, _UNASSOCIATED)), None)
    bits = 8 if page.bitspersample <= 8 or photometric == _PALETTE else 16
    convert, luma, channels = _conversion(page, photometric, colors)
    return Interpretation(
        mode=_mode(photometric, page.bitspersample, bits, len(extra), alpha),
        bits=bits,
        colors=colors,
        convert=convert,
        luma=luma,
        channels=channels,
        alpha=None if alpha is None else colors + alpha,
        is_premultiplied=alpha is not None and extra[alpha] == _ASSOCIATED and photometric in (_BLACK_IS_ZERO, _RGB),
        others=tuple(colors + i for i in range(len(extra)) if i != alpha),
        depth=int(page.bitspersample),
    )


def _extra_samples(page: tifffile.TiffPage, count: int) -> tuple[int, ...]:
    """The types of the extra samples; 0 if unspecified."""
    stored = page.tags.valueof(_EXTRA_SAMPLES, ())
    values = stored if isinstance(stored, tuple) else (stored,)
    return tuple(int(value) for value in (*values, *(0 for _ in range(count))))[:count]


def _mode(photometric: int, stored_bits: int, bits: int, extra: int, alpha: int | None) -> str:
    name = _NAMES[photometric]
    if name == "L" and not extra:
        return "1" if stored_bits == 1 else "I;16" if bits == 16 else "L"
    letter = "" if not extra else "A" if alpha is not None else "X"
    return f"{name}{letter}{';16' if bits == 16 else ''}"


def _conversion(page: tifffile.TiffPage, photometric: int, colors: int) -> tuple[Convert, Convert, int]:
    """The conversions of stored colors to grey or RGB and to luma, and the number of channels of the first."""
    depth = int(page.bitspersample)
    if photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) or (colors == 1 and photometric != _PALETTE):
        grey = partial(_scaled, depth=depth, invert=photometric == _WHITE_IS_ZERO)
        return grey, lambda stored: grey(stored)[..., 0], 1
    if photometric == _YCBCR:
        return _from_ycbcr, lambda stored: np.ascontiguousarray(stored[..., 0]), 3
    converts: dict[int, Convert] = {
        _RGB: partial(_scaled, depth=depth, invert=False),
        _SEPARATED: lambda stored: _from_cmyk(_scaled(stored, depth, invert=False)),
        _CIELAB: lambda stored: _from_lab(_scaled(stored, depth, invert=False), is_signed=True),
        _ICCLAB: lambda stored: _from_lab(_scaled(stored, depth, invert=False), is_signed=False),
    }
    convert = partial(_from_palette, colors=_palette(page)) if photometric == _PALETTE else converts[photometric]
    return convert, lambda stored: luma_of(convert(stored)), 3


def _scaled(stored: Plane, depth: int, invert: bool) -> Plane:
    """Samples of `depth` bits as 8 or 16: below 8 bits scaled to the full range, above 8 shifted to the upper bits."""
    white = (1 << depth) - 1
    samples = np.subtract(stored.dtype.type(white), stored) if invert else stored
    if depth < 8:
        return (samples.astype(np.uint16) * 255 // white).astype(np.uint8)
    return np.left_shift(samples, 16 - depth, dtype=np.uint16) if 8 < depth < 16 else np.ascontiguousarray(samples)


def _palette(page: tifffile.TiffPage) -> Plane:
    """The colors (n, 3) of a palette with 8 bits. Like libtiff, accepts palettes with 8 instead of 16 bits."""
    values = page.colormap
    if values is None:
        raise ImageDecodeError("unreadable", "TIFF with a missing palette")
    colors = np.asarray(values, np.uint16).T
    return (colors if colors.max(initial=0) < 256 else colors >> 8).astype(np.uint8)


def _from_palette(stored: Plane, colors: Plane) -> Plane:
    found: Plane = colors[np.minimum(stored[..., 0], len(colors) - 1)]
    return found


def _from_ycbcr(stored: Plane) -> Plane:
    return np.asarray(Image.fromarray(np.ascontiguousarray(stored), "YCbCr").convert("RGB"))


def _from_cmyk(stored: Plane) -> Plane:
    """Like Pillow's conversion, (1 - C)(1 - K), without an ink profile."""
    if stored.dtype == np.uint8:
        return np.asarray(Image.fromarray(np.ascontiguousarray(stored), "CMYK").convert("RGB"))
    light = 65535 - stored.astype(np.uint64)
    product: Plane = ((light[..., :3] * light[..., 3:] + 32767) // 65535).astype(np.uint16)
    return product


def _from_lab(stored: Plane, is_signed: bool) -> Plane:
    """Lab (D50) to sRGB, at the depth of the samples; `is_signed` is whether a* and b* are stored as signed."""
    if stored.dtype == np.uint8:
        signed = stored if is_signed else stored ^ np.array([0, 128, 128], np.uint8)
        size = stored.shape[1], stored.shape[0]
        return np.asarray(Image.frombytes("LAB", size, signed.tobytes(), "raw", "LAB").convert("RGB"))
    lightness = stored[..., :1].astype(np.uint32)
    if not is_signed:  # 100 is 0xFF00
        lightness = np.minimum(lightness * 257 // 256, 65535)
    opponents = stored[..., 1:] ^ np.uint16(0x8000) if is_signed else stored[..., 1:]
    widened = np.minimum(opponents.astype(np.uint32) * 257 // 256, 65535)  # from 8.8 bits to ICC's 16
    lab = np.ascontiguousarray(np.concatenate((lightness, widened), axis=-1).astype(np.uint16))
    space, srgb = _profiles()
    rgb = imagecodecs.cms_transform(lab, space, srgb, colorspace="lab", outcolorspace="rgb", outdtype="uint16")
    return np.asarray(rgb)


@lru_cache(maxsize=1)
def _profiles() -> tuple[bytes, bytes]:
    """The ICC profiles of Lab and sRGB."""
    lab, srgb = (ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes() for name in ("LAB", "sRGB"))
    return lab, srgb


def unassociated(color: Plane, alpha: Plane) -> Plane:
    """Divides premultiplied color (H, W, n) by alpha (H, W) (TIFF 6.0, ExtraSamples 1)."""
    if color.dtype == np.uint8:
        modes = ("La", "LA") if color.shape[2] == 1 else ("RGBa", "RGBA")
        straight = Image.fromarray(np.dstack((color, alpha)), modes[0]).convert(modes[1])
        return np.asarray(straight)[..., :-1]
    divisor = np.maximum(alpha[..., None], 1).astype(np.float64)
    return np.minimum(np.rint(color * (65535 / divisor)), 65535).astype(np.uint16)
