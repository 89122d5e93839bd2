"""The colorizer: pre- and postprocessing between grey images of any size and a network's tensors.

Every image is scaled into one of a few canvases of about `size` x `size` pixels, keeping its aspect ratio, and padded
by replicating the edge. Images of one canvas share a forward pass. Independent of Ray and of files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from colorize.imaging.canvas import Canvases, Fitted, Shape, stacked
from colorize.imaging.chroma_outliers import compress_outliers, may_have_outliers
from colorize.imaging.hinting import GreyInput, apply_hints, hint_planes
from colorize.predict.network import Float, Network, Prediction

LowAb = npt.NDArray[np.float16]  # (2, h, w), Lab units, covers the whole image


class Colored(NamedTuple):
    """An image's color, and the network's confidence, up to 1; 0 if it was not computed."""

    ab: LowAb
    confidence: float


class Colorizer:
    """A network ready to color batches of grey images."""

    def __init__(self, network: Network, *, size: int = 192, batch_size: int = 8, saturation: float = 1.0) -> None:
        """Takes over `network`.

        Args:
            network: see `Network`.
            size: input images have about `size` x `size` pixels, unless the network has a fixed `canvas`.
            batch_size: maximum number of images per forward pass.
            saturation: factor for the ab; 0 is grey.
        """
        self.network, self.size, self.saturation = network, size, saturation
        self.canvas_size = network.canvas or size
        self.batch_size = batch_size

    def __call__(self, greys: Sequence[GreyInput | Fitted]) -> list[LowAb]:
        """The ab of each image, in order, at the network's resolution; may have values that are not finite."""
        return [colored.ab for colored in self.color(greys)]

    def color(self, greys: Sequence[GreyInput | Fitted], *, confidence: bool = False) -> list[Colored]:
        """Like `__call__`, optionally with the network's confidence (see `colorize.predict.confidence`).

        For confidence, a network that predicts no distributions runs again on mirrored images. Hints are inputs of a
        network that takes them, and are also applied to its output (see `colorize.imaging.hinting`).
        """
        fitted = [Canvases(self.canvas_size, self.network.stride).fitted(grey) for grey in greys]
        groups: dict[Shape, list[int]] = defaultdict(list)
        for index, image in enumerate(fitted):
            groups[image.canvas].append(index)
        chunks = [chunk for members in groups.values() for chunk in _chunks(members, self.batch_size)]
        # Launch all batches on a GPU before waiting for the first result.
        started = [self._start([fitted[index] for index in chunk], confidence) for chunk in chunks]
        colors: dict[int, Colored] = {}
        for chunk, finish in zip(chunks, started, strict=True):
            colors.update(zip(chunk, self._finish([fitted[index] for index in chunk], finish()), strict=True))
        return [colors[index] for index in range(len(greys))]

    def _start(self, images: list[Fitted], confidence: bool) -> Callable[[], Prediction]:
        """The forward pass of images of one canvas."""
        return self.network.start(stacked(images), self._hints(images), confidence)

    def _finish(self, images: list[Fitted], predicted: Prediction) -> Iterator[Colored]:
        colors = np.float32(self.saturation) * predicted.ab
        uncertainties = [None] * len(images) if predicted.uncertainty is None else predicted.uncertainty
        halves, vivid = colors.astype(np.float16), may_have_outliers(colors)
        low = colors.shape[2:]
        for index, (image, uncertainty_hw) in enumerate(zip(images, uncertainties, strict=True)):
            h, w = (_covered(*sides) for sides in zip(image.shape, image.canvas, low, strict=True))
            ab_2hw = halves[index, :, :h, :w]
            if vivid[index] or len(image.spots):  # hints last, so that their colors are not compressed
                ab_2hw = apply_hints(compress_outliers(colors[index, :, :h, :w]), image.spots).astype(np.float16)
            yield Colored(ab_2hw, 0.0 if uncertainty_hw is None else float(1 - uncertainty_hw[:h, :w].mean()))

    def _hints(self, images: list[Fitted]) -> tuple[Float, ...]:
        """The hint planes for the network; none if there are no hints."""
        spots, shapes = [image.spots for image in images], [image.shape for image in images]
        if not any(map(len, spots)):
            return ()
        if not self.network.takes_hints:
            raise ValueError(f"{self.network} takes no color hints")
        return hint_planes(spots, shapes, images[0].canvas)


def _covered(side: int, canvas: int, low: int) -> int:
    return max(1, round(side * low / canvas))


def _chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Chunks of `size`, then of decreasing powers of two: few sizes, because cuDNN plans for each."""
    start = 0
    while remaining := len(items) - start:
        count = size if remaining >= size else 1 << (remaining.bit_length() - 1)
        yield items[start : start + count]
        start += count
