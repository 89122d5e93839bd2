"""Color photographs from Parquet, decoded once and kept in memory: what a single machine trains on."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from colorize.config import UsageError, nearest
from colorize.training.settings import DataSettings
from colorize.training.splits import assign_splits


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


@dataclass(frozen=True)
class _Row:
    """Where a picture is, and what its archive says of it; empty where that has no such column."""

    file: Path
    number: int
    path: str = ""
    label: str = ""
    split: str = "train"
    source: str = ""


def read_photos(path: str | Path, split: str, settings: DataSettings) -> Photos:
    """Decode every picture of a split from a Parquet file or a folder of them.

    Columns: the encoded picture; `path`, `label`, `split` and `source` where they exist. A file without `split` is
    all training, unless `settings.split` says what is held out.

    Raises:
        UsageError: no Parquet file there, no such column, or no picture of that split or those labels.
    """
    chosen = _choose(Path(path), split, settings)
    encoded = [data for file, rows in groupby(chosen, lambda r: r.file) for data in _read_images(file, rows, settings)]
    with ThreadPoolExecutor() as pool:
        pictures = list(pool.map(lambda data: _decode(data, settings), encoded))
    return _bucket(pictures, _source_weights([row.source for row in chosen], settings.balance))


def _choose(path: Path, split: str, settings: DataSettings) -> list[_Row]:
    """The rows of a split, in the archive's order."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise UsageError(f"no Parquet file at {path}: give a *.parquet file or a folder of them")
    rows = _with_labels([row for file in files for row in _list_rows(file, settings)], settings.labels)
    splits = [row.split for row in rows]
    if settings.split:
        splits = assign_splits([row.path or f"{row.file.name}:{row.number}" for row in rows], settings.split)
    chosen = [row for row, its_split in zip(rows, splits, strict=True) if its_split == split]
    if not chosen:
        raise UsageError(
            f"{path} holds no picture with split={split!r}: data.split={{val: 0.1}} holds some out by chance"
        )
    return chosen[: settings.limit]


def _list_rows(file: Path, settings: DataSettings) -> list[_Row]:
    names = pq.read_schema(file).names
    for needed in (settings.image_column, *(["label"] if settings.labels else [])):
        if needed not in names:
            raise UsageError(f"{file} has no column {needed!r} (it has: {', '.join(names)})")
    columns = [c for c in ("path", "label", "split", "source") if c in names]
    table = pq.read_table(file, columns=columns)
    rows = table.to_pylist() if columns else [{}] * pq.read_metadata(file).num_rows
    known = ({key: str(value) for key, value in row.items() if value is not None} for row in rows)
    return [_Row(file, number, **row) for number, row in enumerate(known)]


def _with_labels(rows: list[_Row], labels: Sequence[str] | None) -> list[_Row]:
    if labels is None:
        return rows
    unknown = sorted(set(labels) - {row.label for row in rows})
    if unknown:
        known = sorted({row.label for row in rows})
        raise UsageError(f"data.labels: no picture is labeled {unknown[0]!r}{nearest(unknown[0], known)}")
    return [row for row in rows if row.label in labels]


def _read_images(file: Path, rows: Iterable[_Row], settings: DataSettings) -> list[bytes]:
    column = pq.read_table(file, columns=[settings.image_column]).column(0)
    encoded: list[bytes] = column.take([row.number for row in rows]).to_pylist()
    return encoded


def _decode(encoded: bytes, settings: DataSettings) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """RGB `(H, W, 3)` of one of the bucket shapes: the nearest aspect ratio, what is over cut off evenly.

    Sides are multiples of 16.
    """
    short_side = settings.short_side
    with Image.open(io.BytesIO(encoded)) as opened:
        opened.draft("RGB", (2 * short_side, 2 * short_side))
        picture = opened.convert("RGB")
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


def _bucket(pictures: list[np.ndarray], weights: list[float]) -> Photos:
    shapes = sorted({picture.shape for picture in pictures})
    members = [[i for i, picture in enumerate(pictures) if picture.shape == shape] for shape in shapes]
    buckets = [torch.from_numpy(np.stack([pictures[i] for i in m])).permute(0, 3, 1, 2) for m in members]
    return Photos(buckets, [torch.tensor([weights[i] for i in m]) for m in members])
