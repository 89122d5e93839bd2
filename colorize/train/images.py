"""Decoded images in memory, on CPU or GPU, and batches drawn from them."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from colorize.errors import UsageError
from colorize.imaging.formats.upright import RGB
from colorize.train.decode import Row
from colorize.train.selection import too_many_broken
from colorize.train.settings import DataSettings

CHUNK = 1024  # images copied to the device at once


@dataclass(frozen=True)
class DecodedImages:
    """Images by shape.

    Attributes:
        buckets: one uint8 tensor `(N, H, W, 3)` per shape.
        rates: expected draws per round of each image, `(N,)` per bucket, on the CPU.
    """

    buckets: list[Tensor]
    rates: list[Tensor]

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self.buckets)

    def random_batches(
        self, batch_size: int, seed: str, start: int = 0, device: torch.device | None = None
    ) -> Iterator[Tensor]:
        """Endless full batches of one shape each, from number `start` on; the same for the same seed.

        In each round an image is drawn as often as its rate says. The remainder of a shape starts the next round.

        Yields:
            sRGB in [0, 1] `(B, 3, H, W)`, float32, on the device, by default that of the images.
        """
        for which, index in itertools.islice(self._order(batch_size, seed), start, None):
            yield as_float(self.buckets[which][index].to(device or index.device, non_blocking=True))

    def _order(self, batch_size: int, seed: str) -> Iterator[tuple[int, Tensor]]:
        """Bucket and indices of each batch."""
        left = [torch.zeros(0, dtype=torch.long)] * len(self.buckets)
        for number in itertools.count():
            generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {number}".encode()))
            queue: list[tuple[int, Tensor]] = []
            for which, rates in enumerate(self.rates):
                drawn = torch.cat((left[which], _draw(rates, generator)))
                full = len(drawn) // batch_size * batch_size
                left[which] = drawn[full:]
                batches = drawn[:full].to(self.buckets[which].device).view(-1, batch_size)
                queue += [(which, index) for index in batches]
            yield from (queue[place] for place in torch.randperm(len(queue), generator=generator).tolist())

    def in_order(self, batch_size: int) -> Iterator[Tensor]:
        """Each image once, in batches as in `random_batches`; the last batch of a shape may be smaller."""
        for bucket in self.buckets:
            yield from (as_float(batch) for batch in torch.split(bucket, batch_size))

    def singles(self) -> Iterator[Tensor]:
        """Each image once, in batches of one, alternating between shapes."""
        longest = max((len(bucket) for bucket in self.buckets), default=0)
        for number in range(longest):
            yield from (as_float(bucket[number, None]) for bucket in self.buckets if number < len(bucket))


def as_float(rgb_BHW3: Tensor) -> Tensor:
    """uint8 `(B, H, W, 3)` -> sRGB in [0, 1] `(B, 3, H, W)`, float32."""
    return rgb_BHW3.permute(0, 3, 1, 2).float() / 255


def collect_images(rows: Iterable[Row], data: DataSettings, device: str | torch.device = "cpu") -> DecodedImages:
    """Keeps all images on the device, without broken ones.

    Raises:
        UsageError: more images are broken than `data.tolerate_broken` allows.
    """
    chunks: dict[tuple[int, ...], _Bucket] = {}
    seen = broken = 0
    for row in rows:
        seen += 1
        if row.rgb is None:
            broken += 1
            if reason := too_many_broken(broken, seen, data):
                raise UsageError(reason)
        else:
            chunks.setdefault(row.rgb.shape, _Bucket(device)).add(row)
    if broken and broken == seen:
        raise UsageError(f"all {seen} images are corrupt")
    ordered = [chunks[shape] for shape in sorted(chunks)]
    return DecodedImages([bucket.tensor() for bucket in ordered], [torch.tensor(bucket.rates) for bucket in ordered])


class _Bucket:
    """Collects images of one shape on their device."""

    def __init__(self, device: str | torch.device) -> None:
        self.device = device
        self.rates: list[float] = []
        self._chunks: list[Tensor] = []
        self._latest: list[RGB] = []

    def add(self, row: Row) -> None:
        assert row.rgb is not None
        self._latest.append(row.rgb)
        self.rates.append(row.rate)
        if len(self._latest) == CHUNK:
            self._move()

    def tensor(self) -> Tensor:
        self._move()
        return torch.cat(self._chunks)

    def _move(self) -> None:
        if self._latest:
            self._chunks.append(torch.from_numpy(np.stack(self._latest)).to(self.device))
            self._latest = []


def _draw(rates: Tensor, generator: torch.Generator) -> Tensor:
    """Indices in random order, each as often as its rate: for 2.5 two or three times."""
    times = (rates + torch.rand(len(rates), generator=generator)).floor().long()
    drawn = torch.repeat_interleave(times)
    return drawn[torch.randperm(len(drawn), generator=generator)]
