"""Estimates the number of images per epoch and the sampling rates of sources, from names and small columns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa

from colorize.datasets.readers import Raw
from colorize.datasets.sources import Source
from colorize.datasets.splits import split_of, split_row
from colorize.errors import UsageError
from colorize.settings import nearest
from colorize.storage.parquet import Archive
from colorize.storage.parquet_cells import plain_rows
from colorize.train.decode import image_bytes
from colorize.train.selection import draw_rates, is_wanted, label_of
from colorize.train.settings import DataSettings, ModelSettings

COLUMNS = ("path", "split", "source", "label")  # optional columns of archives
MAX_PARTS = 256  # archives that are read, evenly sampled
MAX_ROWS = 500_000  # rows that are read, evenly sampled
READ_THREADS = 16
FEW = 1000  # images; with fewer, a network trained from scratch does not generalize
MEMORY_SHARE = 1 / 3  # default limit for decoded images


@dataclass(frozen=True)
class EpochPlan:
    """An estimate of an epoch.

    Attributes:
        images: approximate number of images.
        rates: draws per image and epoch, by source; see `draw_rates`. Empty: each once.
    """

    images: int
    rates: dict[str, float] = field(default_factory=dict)

    def warning(self, model: ModelSettings) -> str:
        """A warning against training from scratch on few images, or ""."""
        if self.images >= FEW or model.weights is not None:
            return ""
        return (
            f"warning: {self.images} images to train on are few: the network will overfit; "
            "use thousands, or start from trained weights (model.weights)"
        )


def plan_epoch(source: Source, settings: DataSettings) -> EpochPlan:
    """Plans an epoch of the split `train`, with the settings' filters, balance and limit.

    Raises:
        UsageError: no images are left, or a filter matches nothing.
    """
    seen, counts, known = 0, Counter[str](), KnownValues()
    for row in _rows(source):
        seen += 1
        known.add(row)
        if is_wanted(row, settings) and split_of(row, settings.split) == "train":
            counts[str(row.get("source", ""))] += 1
    if seen == source.total:  # no sampling
        known.check(settings)
        if not counts:
            raise UsageError("no image is left to train on: see data.labels, data.sources and data.split")
    rates = draw_rates(counts, settings.balance) if settings.balance < 1 else {}
    images = round(source.total * counts.total() / max(seen, 1))
    return EpochPlan(min(images, settings.limit or images), rates)


class KnownValues:
    """The labels, sources and paths of a dataset, to check filters against."""

    def __init__(self) -> None:
        self._labels, self._sources = set[str](), set[str]()
        self._paths: list[str] = []

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds an image."""
        self._labels.add(label_of(row))
        self._sources.add(str(row.get("source")))
        self._paths.append(str(row["path"]))

    def check(self, settings: DataSettings) -> None:
        """Raises UsageError for a label or source that no image has, or globs that match no path."""
        for name, wanted, known in (
            ("label", settings.labels, self._labels),
            ("source", settings.sources, self._sources),
        ):
            for unknown in sorted(set(wanted or ()) - known):
                raise UsageError(f"data.{name}s: no image has {name} {unknown!r}{nearest(unknown, sorted(known))}")
        globs = settings.include
        if globs is not None and not any(fnmatchcase(path, glob) for path in self._paths for glob in globs):
            raise UsageError(f"data.include: no image matches {globs}; a path is for example {self._paths[0]!r}")


def fits_in_memory(plan: EpochPlan, settings: DataSettings, memory: float) -> bool:
    """Whether all decoded images fit into `memory` bytes, or into `data.memory_gb` if set."""
    budget = MEMORY_SHARE * memory if settings.memory_gb is None else settings.memory_gb * 2**30
    return plan.images * image_bytes(settings) <= budget


def _rows(source: Source) -> Iterator[dict[str, Any]]:
    """Metadata of the source's images; of a large source an even sample."""
    if source.parts is None:
        names = islice(source.names(), 0, None, _step(source.units.num_rows, MAX_ROWS))
        yield from (split_row(Raw(name), False) for name in names)
        return
    parts = list(source.parts)
    drawn = parts[:: _step(len(parts), MAX_PARTS)]
    step = _step(sum(source.parts[part] for part in drawn), MAX_ROWS)
    with ThreadPoolExecutor(READ_THREADS) as pool:
        for raws in pool.map(partial(_read, source, step), drawn):
            yield from (split_row(raw, len(parts) > 1) for raw in raws)


def _read(source: Source, step: int, part: str) -> list[Raw]:
    """Every `step`-th row of an archive, without its image; none if the archive is damaged."""
    try:
        with source.storage.open(part) as file:
            rows = list(islice(plain_rows(Archive(file), COLUMNS), 0, None, step))
    except (OSError, pa.ArrowException):
        return []  # training reports them as broken
    return [Raw(f"{part}#{index * step}", part=part, columns=row) for index, row in enumerate(rows)]


def _step(count: int, most: int) -> int:
    return max(1, math.ceil(count / most))
