"""Data types shared by reading, composing and writing an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from colorize.imaging.formats.encoded import Encoded
from colorize.imaging.formats.formats import ImageInfo
from colorize.imaging.formats.metadata import Metadata
from colorize.imaging.triage import Kind

Plane: TypeAlias = NDArray[np.unsignedinteger[Any]]  # uint8 or uint16


class Pixels(Protocol):
    """Pixels (H, W) or (H, W, channels) that are read by rows: an array or `Rows`; `np.asarray` reads all of them."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def ndim(self) -> int: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def itemsize(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Plane: ...

    def __array__(self) -> NDArray[Any]: ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Lazily computed pixels: `read` takes a slice of rows with start and stop within the image."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[slice], Plane]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    def __getitem__(self, rows: slice, /) -> Plane:
        start, stop, _ = rows.indices(self.shape[0])
        return self.read(slice(start, stop))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)


@dataclass(frozen=True, slots=True)
class SmallGrey:
    """A small upright grey copy of an image, for the network.

    Attributes:
        info: of the image.
        luma: uint8 (h, w), with EXIF orientation applied.
        colorfulness: color besides the tone, in levels of 255: 0 for grey, below about 2 for toned prints,
            higher for color photographs (see `colorize.imaging.tone`).
        kind: see `colorize.imaging.triage`.
    """

    info: ImageInfo
    luma: NDArray[np.uint8]
    colorfulness: float
    kind: Kind = "grey"


class JpegTables(NamedTuple):
    """The quantization tables of a JPEG's copy: 64 values in rows."""

    luma: Sequence[int]
    chroma: Sequence[int]


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An image at full size, in the layout of the file (EXIF orientation not applied).

    Attributes:
        info: of the image.
        luma: (H, W), uint8 or uint16 (`info.bits`), or half of that, rounded up, if decoded `halved`. The rows of huge
            images are decoded when they are read, which may raise `ImageDecodeError`.
        alpha: (H, W) with the same dtype, or None.
        luma_exact: whether the colored copy will have exactly this luminance.
        metadata: of the file.
        source: the encoded file.
        further: extra channels of a TIFF (H, W, n) that are neither color nor alpha.
        directory: offset of the page's directory in a TIFF.
        tables: of a JPEG only.
    """

    info: ImageInfo
    luma: Pixels
    alpha: Pixels | None
    luma_exact: bool
    metadata: Metadata
    source: Encoded
    further: Pixels | None = None
    directory: int = 0
    tables: JpegTables | None = None


class Header(NamedTuple):
    """The fields of `DecodedImage` that are known without decoding pixels."""

    info: ImageInfo
    luma_exact: bool
    metadata: Metadata


Subsampling: TypeAlias = Literal["4:2:0", "4:4:4"]


class Chroma(NamedTuple):
    """The chroma planes of a JPEG: uint8, 128 is neutral; full size (4:4:4), or half of it, rounded up (4:2:0)."""

    cb: NDArray[np.uint8]
    cr: NDArray[np.uint8]


Color: TypeAlias = Chroma | Pixels  # RGB, (H, W, 3)


def channels(pixels: Pixels) -> int:
    """The number of channels of pixels (H, W) or (H, W, channels)."""
    return 1 if pixels.ndim == 2 else int(pixels.shape[2])


def half_shape(height: int, width: int) -> tuple[int, int]:
    """Half the height and width, rounded up: the size of 4:2:0 chroma planes."""
    return (height + 1) // 2, (width + 1) // 2
