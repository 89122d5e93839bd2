"""How many images an epoch will hold, and how often each source's are drawn: by names and small columns alone."""

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

COLUMNS = ("path", "split", "source", "label")  # what an archive may say of an image
MAX_PARTS = 256  # are read, evenly drawn of all
MAX_ROWS = 500_000  # are looked at, evenly drawn: by then the fractions are known well enough
READ_THREADS = 16
FEW = 1000  # images, below which a network that starts without weights colors nothing else well
MEMORY_SHARE = 1 / 3  # that decoded images take at most, where nothing else is said


@dataclass(frozen=True)
class EpochPlan:
    """What an epoch of a source comes to.

    Attributes:
        images: about so many.
        rates: how often an image of each source is drawn; see `draw_rates`. Empty: each once.
    """

    images: int
    rates: dict[str, float] = field(default_factory=dict)

    def warning(self, model: ModelSettings) -> str:
        """What to expect where a network is to learn everything from a few images; empty where it is not."""
        if self.images >= FEW or model.weights is not None:
            return ""
        return (
            f"warning: {self.images} images to train on are few: a network learns them by heart; "
            "give it thousands, or start from trained weights (model.weights)"
        )


def plan_epoch(source: Source, settings: DataSettings) -> EpochPlan:
    """The split `train` of a source, with the settings' filters, balance and limit.

    Raises:
        UsageError: nothing is left to train on.
    """
    seen, counts, known = 0, Counter[str](), Known()
    for row in _rows(source):
        seen += 1
        known.add(row)
        if is_wanted(row, settings) and split_of(row, settings.split) == "train":
            counts[str(row.get("source", ""))] += 1
    if seen == source.total:  # all of them were looked at
        known.check(settings)
        if not counts:
            raise UsageError("no image is left to train on: see data.labels, data.sources and data.split")
    rates = draw_rates(counts, settings.balance) if settings.balance < 1 else {}
    images = round(source.total * counts.total() / max(seen, 1))
    return EpochPlan(min(images, settings.limit or images), rates)


class Known:
    """What a source's images are called, so that a filter that fits none can be told what there is."""

    def __init__(self) -> None:
        self._labels, self._sources = set[str](), set[str]()
        self._paths: list[str] = []

    def add(self, row: Mapping[str, Any]) -> None:
        """One image."""
        self._labels.add(label_of(row))
        self._sources.add(str(row.get("source")))
        self._paths.append(str(row["path"]))

    def check(self, settings: DataSettings) -> None:
        """Raises UsageError for a label or source that no image has, or globs that fit no path."""
        for name, wanted, known in (
            ("label", settings.labels, self._labels),
            ("source", settings.sources, self._sources),
        ):
            for unknown in sorted(set(wanted or ()) - known):
                raise UsageError(f"data.{name}s: no image has {name} {unknown!r}{nearest(unknown, sorted(known))}")
        globs = settings.include
        if globs is not None and not any(fnmatchcase(path, glob) for path in self._paths for glob in globs):
            raise UsageError(f"data.include: no image matches {globs}; a path is for example {self._paths[0]!r}")


def fits(plan: EpochPlan, settings: DataSettings, memory: float) -> bool:
    """Whether all images, once decoded, can be kept where there are so many bytes of memory."""
    budget = MEMORY_SHARE * memory if settings.memory_gb is None else settings.memory_gb * 2**30
    return plan.images * image_bytes(settings) <= budget


def _rows(source: Source) -> Iterator[dict[str, Any]]:
    """What is known of the source's images, or of a large source's evenly drawn ones, without reading them."""
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
    """Every `step`-th row of an archive, without its image; none of one whose pages are damaged."""
    try:
        with source.storage.open(part) as file:
            rows = list(islice(plain_rows(Archive(file), COLUMNS), 0, None, step))
    except (OSError, pa.ArrowException):
        return []  # training will find them broken
    return [Raw(f"{part}#{index * step}", part=part, columns=row) for index, row in enumerate(rows)]


def _step(count: int, most: int) -> int:
    return max(1, math.ceil(count / most))
