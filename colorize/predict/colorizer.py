"""Images in, color out: owns what lies between a grey image of any size and a network's tensors.

Every image is scaled, its aspect kept, into one of a few canvases of about `size` x `size` pixels, the rest of
which is filled by repeating the edge. Images of one canvas share a forward pass. No Ray here, and no files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from colorize.imaging.blotches import may_be_tamed, tame
from colorize.imaging.canvas import Canvases, Fitted, Shape, stacked
from colorize.imaging.hinting import Seen, held_to, hint_planes
from colorize.predict.network import Float, Network, Prediction

LowAb = npt.NDArray[np.float16]  # (2, h, w), Lab units, covers the whole image


class Colored(NamedTuple):
    """An image's color, and how sure the network is of it: up to 1, larger is surer; 0 where it was not asked."""

    ab: LowAb
    confidence: float


class Colorizer:
    """A network ready to color batches of grey images."""

    def __init__(self, network: Network, *, size: int = 192, batch_size: int = 8, saturation: float = 1.0) -> None:
        """Takes over `network`.

        Args:
            network: see `Network`.
            size: it sees about `size` x `size` pixels, unless `network.canvas` says for which it was made.
            batch_size: images in a forward pass at most.
            saturation: factor of the ab; 0 is grey.
        """
        self.network, self.size, self.saturation = network, size, saturation
        self.canvas_size = network.canvas or size
        self.batch_size = batch_size

    def __call__(self, greys: Sequence[Seen | Fitted]) -> list[LowAb]:
        """The ab of each image, at the network's resolution, in the order given.

        An image whose colors are not finite comes back as NaN, for the caller to report.
        """
        return [colored.ab for colored in self.color(greys)]

    def color(self, greys: Sequence[Seen | Fitted], *, confidence: bool = False) -> list[Colored]:
        """The same, and on demand with the network's confidence (see `colorize.predict.confidence`).

        A network that does not predict distributions then runs twice, the second time on mirrored images.
        Hints reach a network that takes them, and its colors are held to them (see `colorize.imaging.hinting`).
        """
        fitted = [Canvases(self.canvas_size, self.network.stride).fitted(grey) for grey in greys]
        groups: dict[Shape, list[int]] = defaultdict(list)
        for index, image in enumerate(fitted):
            groups[image.canvas].append(index)
        chunks = [chunk for members in groups.values() for chunk in _chunks(members, self.batch_size)]
        # A GPU works on all of them while the first one's colors are waited for.
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
        doubts = [None] * len(images) if predicted.doubt is None else predicted.doubt
        halves, vivid = colors.astype(np.float16), may_be_tamed(colors)
        low = colors.shape[2:]
        for index, (image, doubt_hw) in enumerate(zip(images, doubts, strict=True)):
            h, w = (_covered(*sides) for sides in zip(image.shape, image.canvas, low, strict=True))
            ab_2hw = halves[index, :, :h, :w]
            if vivid[index] or len(image.spots):  # a hint's color is what was asked for
                ab_2hw = held_to(tame(colors[index, :, :h, :w]), image.spots).astype(np.float16)
            yield Colored(ab_2hw, 0.0 if doubt_hw is None else float(1 - doubt_hw[:h, :w].mean()))

    def _hints(self, images: list[Fitted]) -> tuple[Float, ...]:
        """The planes that go to the network beside the grey: none where there are no hints."""
        spots, shapes = [image.spots for image in images], [image.shape for image in images]
        if not any(map(len, spots)):
            return ()
        if not self.network.takes_hints:
            raise ValueError(f"{self.network} takes no color hints")
        return hint_planes(spots, shapes, images[0].canvas)


def _covered(side: int, canvas: int, low: int) -> int:
    return max(1, round(side * low / canvas))


def _chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Runs of `size`, then of ever smaller powers of two: few sizes, so that a GPU's libraries plan for few."""
    start = 0
    while left := len(items) - start:
        count = size if left >= size else 1 << (left.bit_length() - 1)
        yield items[start : start + count]
        start += count
