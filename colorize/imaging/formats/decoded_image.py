"""What travels between reading, composing and writing an image."""

from __future__ import annotations

from collections.abc import Callable
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
    """Pixels (H, W) or (H, W, channels) that are read by rows: an array, or `Rows`; `np.asarray` reads them all."""

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
    """Pixels that are made when they are asked for: `read` takes a slice of rows, start and stop within the image."""

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

    `luma` is uint8 (h, w), EXIF orientation applied. `colorfulness` is how much color the file already has, in
    levels of 255: 0 for grey, below about 2 for sepia and other toned prints, above for color photographs, faded ones
    included. `kind` is what the image is (`colorize.imaging.triage`).
    """

    info: ImageInfo
    luma: NDArray[np.uint8]
    colorfulness: float
    kind: Kind = "grey"


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An image at full size, in the layout of the file (EXIF orientation not applied).

    `luma` and `alpha` are (H, W), uint8 or uint16 (`info.bits`); those of huge images are decoded as their rows are
    read, which raises `ImageDecodeError` where the file is damaged. `luma_exact` tells whether the colored copy will
    hold exactly this luminance. `source` is the encoded file. `further` (H, W, n) are channels that are neither color
    nor opacity, and `directory` is where the page's directory begins: of TIFF only.

    The luma of a JPEG that was decoded `halved` has half the size, rounded up.
    """

    info: ImageInfo
    luma: Pixels
    alpha: Pixels | None
    luma_exact: bool
    metadata: Metadata
    source: Encoded
    further: Pixels | None = None
    directory: int = 0


class Header(NamedTuple):
    """What can be said of an image without its pixels, in the words of `Image`."""

    info: ImageInfo
    luma_exact: bool
    metadata: Metadata


Subsampling: TypeAlias = Literal["4:2:0", "4:4:4"]


class Chroma(NamedTuple):
    """The chroma planes of a JPEG: uint8, 128 is neutral.

    They have half the image's resolution, rounded up (4:2:0), or all of it (4:4:4).
    """

    cb: NDArray[np.uint8]
    cr: NDArray[np.uint8]


Color: TypeAlias = Chroma | Pixels  # RGB, (H, W, 3)


def channels(pixels: Pixels) -> int:
    """How many channels pixels (H, W) or (H, W, channels) have."""
    return 1 if pixels.ndim == 2 else int(pixels.shape[2])


def half_shape(height: int, width: int) -> tuple[int, int]:
    """Half the size each way, rounded up: that of chroma planes subsampled as 4:2:0."""
    return (height + 1) // 2, (width + 1) // 2
