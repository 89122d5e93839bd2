"""Color photographs from Parquet, decoded once and kept in memory: what a single machine trains on."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from colorize.config import UsageError
from colorize.training.settings import DataSettings

# Aspect ratios (width / height) that pictures are brought to, so that they fit into batches. Sides stay multiples
# of 16, and the nearest one cuts off little.
_ASPECTS = (0.75, 1.0, 1.375)


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

    def to(self, device: torch.device) -> Photos:
        """The same pictures in that device's memory."""
        return Photos([b.to(device) for b in self.buckets], [w.to(device) for w in self.weights])

    def random_batches(self, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Batches of one shape each, without end: sRGB in [0, 1] `(B, 3, H, W)`, float32."""
        shares = torch.stack([weights.sum().cpu() for weights in self.weights])
        while True:
            which = int(torch.multinomial(shares, 1, generator=generator))
            index = torch.multinomial(self.weights[which].cpu(), batch_size, True, generator=generator)
            yield as_float(self.buckets[which][index.to(self.buckets[which].device)])

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

    Columns: the encoded picture; `split` and `source` where they exist (a file without `split` is all training).

    Raises:
        UsageError: no Parquet file there, no such column, or no picture of that split.
    """
    encoded, sources = _read_rows(Path(path), split, settings)
    if not encoded:
        raise UsageError(f"{path} holds no picture with split={split!r}")
    with ThreadPoolExecutor() as pool:
        pictures = list(pool.map(lambda data: _decode(data, settings.short_side), encoded))
    return _bucket(pictures, _source_weights(sources, settings.balance))


def _read_rows(path: Path, split: str, settings: DataSettings) -> tuple[list[bytes], list[str]]:
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise UsageError(f"no Parquet file at {path}: give a *.parquet file or a folder of them")
    encoded: list[bytes] = []
    sources: list[str] = []
    for file in files:
        names = pq.read_schema(file).names
        if settings.image_column not in names:
            raise UsageError(f"{file} has no column {settings.image_column!r} (it has: {', '.join(names)})")
        columns = [c for c in (settings.image_column, "split", "source") if c in names]
        for row in pq.read_table(file, columns=columns).to_pylist():
            if row.get("split", "train") == split:
                encoded.append(row[settings.image_column])
                sources.append(row.get("source") or "")
        if settings.limit and len(encoded) >= settings.limit:
            break
    return encoded[: settings.limit], sources[: settings.limit]


def _decode(encoded: bytes, short_side: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """RGB `(H, W, 3)` of one of the bucket shapes: the nearest aspect ratio, what is over cut off evenly."""
    with Image.open(io.BytesIO(encoded)) as opened:
        opened.draft("RGB", (2 * short_side, 2 * short_side))
        picture = opened.convert("RGB")
    width, height = picture.size
    aspect = min(_ASPECTS, key=lambda a: abs(np.log(a * height / width)))
    shape = (round(short_side * max(aspect, 1)), round(short_side / min(aspect, 1)))
    shape = (shape[0] // 16 * 16, shape[1] // 16 * 16)
    scale = min(width / shape[0], height / shape[1])
    left, top = (width - shape[0] * scale) / 2, (height - shape[1] * scale) / 2
    box = (left, top, width - left, height - top)
    return np.asarray(picture.resize(shape, Image.Resampling.BICUBIC, box=box))


def _source_weights(sources: Sequence[str], balance: float) -> list[float]:
    counts = {source: sources.count(source) for source in set(sources)}
    return [counts[source] ** (balance - 1) for source in sources]


def _bucket(pictures: list[np.ndarray], weights: list[float]) -> Photos:
    shapes = sorted({picture.shape for picture in pictures})
    members = [[i for i, picture in enumerate(pictures) if picture.shape == shape] for shape in shapes]
    buckets = [torch.from_numpy(np.stack([pictures[i] for i in m])).permute(0, 3, 1, 2) for m in members]
    return Photos(buckets, [torch.tensor([weights[i] for i in m]) for m in members])
