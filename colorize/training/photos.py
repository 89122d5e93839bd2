"""Color photographs from Parquet, decoded once and kept in memory: what a single machine trains on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from colorize.errors import UsageError
from colorize.imaging.formats.upright import RGB
from colorize.training.archive import choose_rows, read_images
from colorize.training.feed import too_many_broken, training_picture
from colorize.training.settings import DataSettings


@dataclass(frozen=True)
class Photos:
    """Pictures of one split.

    Attributes:
        buckets: one uint8 tensor `(N, 3, H, W)` for each shape.
        weights: how often each picture of each bucket is to be drawn, relative to the others.
    """

    buckets: list[Tensor]
    weights: list[Tensor]

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self.buckets)

    def random_batches(self, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Batches of one shape each, without end: sRGB in [0, 1] `(B, 3, H, W)`, float32.

        Each picture comes once in a round; where weights differ, as often as its weight says on average.
        """
        while True:
            drawn = [torch.split(self._draw(weights, generator), batch_size) for weights in self.weights]
            queue = [(which, index) for which, batches in enumerate(drawn) for index in batches]
            for position in torch.randperm(len(queue), generator=generator).tolist():
                which, index = queue[position]
                yield as_float(self.buckets[which][index])

    @staticmethod
    def _draw(weights: Tensor, generator: torch.Generator) -> Tensor:
        """As many positions as there are weights, in random order: each once if the weights are equal."""
        if (weights == weights[0]).all():
            return torch.randperm(len(weights), generator=generator)
        return torch.multinomial(weights, len(weights), True, generator=generator)

    def batches(self, batch_size: int, limit: int) -> Iterator[Tensor]:
        """The first `limit` pictures at most, evenly from the buckets, in a fixed order, as `random_batches`."""
        for bucket in self.buckets:
            share = round(limit * len(bucket) / max(len(self), 1))
            for start in range(0, min(share, len(bucket)), batch_size):
                yield as_float(bucket[start : min(start + batch_size, share)])


def as_float(rgb_uint8: Tensor) -> Tensor:
    """0..255 -> [0, 1] float32."""
    return rgb_uint8.float() / 255


def read_photos(path: str | Path, split: str, settings: DataSettings) -> Photos:
    """Decode every picture of a split from a Parquet file or a folder of them.

    Columns: the encoded picture; `path`, `label`, `split` and `source` where they exist. A file without `split` is
    all training, unless `settings.split` says what is held out.

    Broken pictures are left out.

    Raises:
        UsageError: no Parquet file there, no such column, no picture of that split or those labels, or more broken
            ones than `settings.tolerate_broken` allows.
    """
    chosen = choose_rows(Path(path), split, settings)
    encoded = read_images(chosen, settings.image_column)
    with ThreadPoolExecutor() as pool:
        decoded = list(pool.map(lambda data: _decode(data, settings), encoded))
    whole = [(row.source, picture) for row, picture in zip(chosen, decoded, strict=True) if picture is not None]
    broken = len(chosen) - len(whole)
    if reason := too_many_broken(broken, len(chosen), settings) or ("" if whole else "every picture is broken"):
        raise UsageError(f"{path}, split {split!r}: {reason}")
    sources, pictures = zip(*whole, strict=True)
    return _bucket(pictures, _source_weights(sources, settings.balance))


def _decode(encoded: bytes, settings: DataSettings) -> RGB | None:
    """RGB `(H, W, 3)` of one of the bucket shapes: the nearest aspect ratio, what is over cut off evenly.

    Sides are multiples of 16. None for what is no picture.
    """
    short_side = settings.short_side
    picture = training_picture(encoded, short_side)
    if picture is None:
        return None
    width, height = picture.size
    aspect = min(settings.aspects, key=lambda a: abs(np.log(a * height / width)))
    shape = (round(short_side * max(aspect, 1)), round(short_side / min(aspect, 1)))
    shape = (shape[0] // 16 * 16, shape[1] // 16 * 16)
    scale = min(width / shape[0], height / shape[1])
    left, top = (width - shape[0] * scale) / 2, (height - shape[1] * scale) / 2
    box = (left, top, width - left, height - top)
    return np.asarray(picture.resize(shape, Image.Resampling.BICUBIC, box=box))


def _source_weights(sources: Sequence[str], balance: float) -> list[float]:
    counts = Counter(sources)
    return [counts[source] ** (balance - 1) for source in sources]


def _bucket(pictures: Sequence[RGB], weights: list[float]) -> Photos:
    shapes = sorted({picture.shape for picture in pictures})
    members = [[i for i, picture in enumerate(pictures) if picture.shape == shape] for shape in shapes]
    buckets = [torch.from_numpy(np.stack([pictures[i] for i in m])).permute(0, 3, 1, 2) for m in members]
    return Photos(buckets, [torch.tensor([weights[i] for i in m]) for m in members])
