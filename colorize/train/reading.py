"""Reads the images of a split, in Ray's tasks and in a single process."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from queue import SimpleQueue

import numpy as np
import pyarrow as pa

from colorize.datasets.readers import Reader
from colorize.datasets.settings import SourceSettings
from colorize.datasets.sources import Source, open_source
from colorize.datasets.splits import Split, split_of, split_row
from colorize.imaging.formats import whole
from colorize.imaging.formats.upright import RGB
from colorize.imaging.sandbox import Fault, Guarded, is_plain
from colorize.imaging.settings import LimitSettings
from colorize.train.decode import Row, Shape, decode_image, shapes
from colorize.train.epoch_plan import COLUMNS, EpochPlan
from colorize.train.selection import is_wanted
from colorize.train.settings import DataSettings, TrainSettings

AHEAD = 256  # images decoded in advance

Encoded = tuple[bytes, float]  # encoded image, and its rate


@dataclass(frozen=True)
class SplitReader:
    """Selects and fetches the images of a split. Picklable.

    Attributes:
        of_several: the source has several archives, whose names may say the split.
        rates: draws per image, by source; see `EpochPlan`.
        repeats: repeat images by their rate, at random; otherwise each comes once, with its rate.
        limit: maximum number of images.
    """

    reader: Reader
    of_several: bool
    split: Split
    data: DataSettings
    seed: int
    rates: Mapping[str, float]
    repeats: bool = False
    limit: int | None = None

    @property
    def shapes(self) -> list[Shape]:
        """The shapes of decoded images."""
        return shapes(self.data)

    def fetch(self, units: pa.Table) -> Iterator[list[Encoded]]:
        """The split's images in a table of `UNIT_SCHEMA`."""
        random = np.random.default_rng(self._seed(units) if self.limit else None)
        for raws in self.reader.fetch(units):
            chosen: list[Encoded] = []
            for raw in raws:
                row = split_row(raw, self.of_several)
                if raw.skipped or not is_wanted(row, self.data) or split_of(row, self.data.split) != self.split:
                    continue
                rate = self.rates.get(str(row.get("source", "")), 1.0)
                times = int(rate + random.random()) if self.repeats else 1
                chosen += [(whole(raw.data), rate)] * times
            yield chosen

    def _seed(self, units: pa.Table) -> list[int]:
        """A limit selects the same images in every run."""
        return [self.seed, zlib.crc32(units["name"][0].as_py().encode()), units["first"][0].as_py()]


def open_training_source(uri: str, settings: DataSettings) -> Source:
    """The source at `uri`, with the columns that select images. Raises as `open_source`."""
    source = SourceSettings(image_column=settings.image_column, follow_links=settings.follow_links)
    return open_source(uri, source).with_columns(*COLUMNS)


def split_reader(
    source: Source, split: Split, settings: TrainSettings, plan: EpochPlan, repeats: bool = False
) -> SplitReader:
    """The reader of a split; only `train` is balanced."""
    several, rates = len(source.parts or ()) > 1, plan.rates if split == "train" else {}
    limit = {"train": settings.data.limit, "val": settings.validation.limit}.get(split)
    return SplitReader(source.reader, several, split, settings.data, settings.seed, rates, repeats, limit)


def shuffled_blocks(source: Source, settings: TrainSettings) -> list[pa.Table]:
    """The source's blocks, shuffled reproducibly."""
    blocks = source.blocks()
    np.random.default_rng(settings.seed).shuffle(blocks)
    return blocks


def read_rows(blocks: Iterable[pa.Table], reader: SplitReader, threads: int) -> Iterator[Row]:
    """Decodes the split's images in order, in threads of this process.

    All but plain JPEG and PNG files are decoded in child processes, with limits.
    """
    encoded = (one for block in blocks for chosen in reader.fetch(block) for one in chosen)
    limits, pending = LimitSettings(), deque[Future[Row]]()
    decode = partial(decode_image, allowed=reader.shapes)
    idle = SimpleQueue[Guarded[bytes, RGB | None]]()
    with ExitStack() as children, ThreadPoolExecutor(threads) as pool:
        for _ in range(threads):
            idle.put(children.enter_context(Guarded(decode, limits, isolated=True)))  # starts on first use

        def row_of(one: Encoded) -> Row:
            data, rate = one
            if is_plain(data, limits):
                return Row(decode(data), rate)
            decoder = idle.get()
            try:
                found = decoder(data)
            finally:
                idle.put(decoder)
            return Row(None if isinstance(found, Fault) else found, rate)

        for one in islice(encoded, reader.limit):
            pending.append(pool.submit(row_of, one))
            if len(pending) > AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
