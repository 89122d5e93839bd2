"""Endless training batches, from images in memory or decoded again in each epoch. No Ray."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from colorize.datasets.splits import Split
from colorize.errors import UsageError
from colorize.imaging.formats.upright import RGB
from colorize.train.decode import Row
from colorize.train.images import DecodedImages, as_float
from colorize.train.selection import too_many_broken
from colorize.train.settings import DataSettings
from colorize.train.workers import sum_over_workers

SHUFFLE_ROWS = 2048  # size of the shuffle buffer of a stream
FEW_ROWS = 256  # rows in the buffer before it yields any
NO_IMAGES = "no image to train on for some worker: see data.labels, sources, include, split and trainer.workers"


class Feed(Protocol):
    """Batches are sRGB in [0, 1] `(B, 3, H, W)`, float32, on the training device; each has one shape."""

    @property
    def epoch_images(self) -> int:
        """Images per epoch, of all workers."""
        ...

    def batches(self, start: int = 0) -> Iterator[Tensor]:
        """This worker's batches, endless, from number `start` on."""
        ...

    def held_out(self, split: Split) -> DecodedImages:
        """The images of `val` or `test`."""
        ...


HeldOut = Callable[[Split], DecodedImages]


@dataclass(frozen=True)
class MemoryFeed:
    """Draws from images in memory; batch n is the same in every run."""

    kept: DecodedImages
    held_out: HeldOut
    batch_size: int
    device: torch.device
    seed: int
    rank: int = 0

    @property
    def epoch_images(self) -> int:
        return round(float(sum_over_workers(torch.tensor(float(len(self.kept))))))

    def batches(self, start: int = 0) -> Iterator[Tensor]:
        if not len(self.kept):
            raise UsageError(NO_IMAGES)
        return self.kept.random_batches(self.batch_size, f"{self.seed} {self.rank}", start, self.device)


@dataclass(frozen=True)
class StreamFeed:
    """Decodes images again in each epoch. A resumed run starts a new pass, in another order.

    Attributes:
        rows: starts a pass over this worker's share of the training images.
        epoch_images: images per epoch, of all workers.
    """

    rows: Callable[[], Iterator[Row]]
    held_out: HeldOut
    epoch_images: int
    data: DataSettings
    batch_size: int
    device: torch.device
    seed: int
    rank: int = 0

    def batches(self, start: int = 0) -> Iterator[Tensor]:
        random = np.random.default_rng([self.seed, self.rank, start])
        while True:
            for batch in pass_batches(self.rows(), self.batch_size, self.data, random):
                pinned = batch.pin_memory() if self.device.type == "cuda" else batch
                yield as_float(pinned.to(self.device, non_blocking=True))


def pass_batches(
    rows: Iterator[Row], batch_size: int, data: DataSettings, random: np.random.Generator
) -> Iterator[Tensor]:
    """Full batches of one shape each, uint8 `(B, H, W, 3)`: exactly one for every `batch_size` rows.

    Workers with equal numbers of rows thus take equal numbers of steps, and none waits for another forever. The last
    batches are filled with images seen before.

    Raises:
        UsageError: too many broken images, or no images.
    """
    waiting: dict[tuple[int, ...], list[RGB]] = {}
    seen = broken = done = 0
    for row in shuffled(rows, random):
        seen += 1
        if row.rgb is None:
            broken += 1
            continue
        group = waiting.setdefault(row.rgb.shape, [])
        group.append(row.rgb)
        if len(group) == batch_size:
            latest = torch.from_numpy(np.stack(group))
            group.clear()
            yield latest
            done += 1
    if reason := too_many_broken(broken, seen, data) or ("" if broken < seen else NO_IMAGES):
        raise UsageError(reason)
    left = sorted(filter(None, waiting.values()), key=len)
    while done < max(seen // batch_size, 1):
        yield _filled(left.pop(), batch_size) if left else latest
        done += 1


def _filled(group: list[RGB], batch_size: int) -> Tensor:
    return torch.from_numpy(np.stack(list(itertools.islice(itertools.cycle(group), batch_size))))


def shuffled(rows: Iterator[Row], random: np.random.Generator, most: int = SHUFFLE_ROWS) -> Iterator[Row]:
    """Shuffles rows with a buffer of up to `most` rows, which fills while rows pass through."""
    buffer: list[Row] = []
    for number, row in enumerate(rows):
        if len(buffer) < FEW_ROWS or (len(buffer) < most and number % 2):
            buffer.append(row)
            continue
        place = int(random.integers(len(buffer)))
        yield buffer[place]
        buffer[place] = row
    yield from (buffer[place] for place in random.permutation(len(buffer)))
