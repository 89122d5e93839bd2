"""Resuming: what an earlier run into the same output has settled, and what is left to do."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray

from colorize.bulk.ledger.manifest import MANIFEST, last_run, read_rows
from colorize.bulk.ledger.remaining import remaining
from colorize.bulk.ledger.settled import COLUMNS, Inputs, Matches, Outcome, Settled, Terms, compare, list_outputs
from colorize.bulk.settings import BulkSettings, Resume
from colorize.datasets.hints import NO_HINTS, Hints
from colorize.datasets.sources import Source
from colorize.storage.listing import Entry
from colorize.storage.lock import LOCK
from colorize.storage.parquet import Archive
from colorize.storage.root import LEDGER, Storage

PIECE_BYTES = 64 << 20  # of manifest files (about half a million rows) that are compared at once
SPREAD_BYTES = 4 * PIECE_BYTES  # a larger manifest is compared on the cluster instead of on the driver
HASHED_ROWS = 1000  # whose pictures one task reads and hashes
AT_ONCE = 32


@dataclass
class Work:
    """What a run has to do.

    Attributes:
        run: its number.
        left: the inputs to color.
        before: how the others ended, in earlier runs.
        stale: manifest rows that speak of no input any more and must go.
        leftovers: files that killed runs left half done, and fragments to be made anew: they must go, too.
    """

    run: int
    left: Source
    before: Counter[Outcome] = field(default_factory=Counter)
    stale: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)

    @property
    def is_nothing(self) -> bool:
        """Whether no input is left, nor an archive to be put together."""
        return not self.left.units.num_rows and not self.left.parts


@dataclass(frozen=True)
class Piece:
    """Some manifest files, or a run of rows of one."""

    names: tuple[str, ...]
    start: int = 0
    count: int | None = None


@dataclass
class Ledger:
    """The manifest that earlier runs left in an output, before it was compared with anything."""

    target: Storage
    files: list[Entry]
    resume: Resume

    @classmethod
    def of(cls, target: Storage, resume: Resume) -> Ledger:
        files = [entry for entry in target.entries(MANIFEST) if entry.name.endswith(".parquet")]
        return cls(target, files, resume)

    @property
    def is_large(self) -> bool:
        """Whether comparing it is work for a cluster."""
        by_content = self.resume.verify == "hash" and bool(self.files)
        return not self.resume.fresh and (by_content or sum(entry.size for entry in self.files) > SPREAD_BYTES)

    def plan(self, source: Source, model_sha256: str, settings: BulkSettings, hints: Hints = NO_HINTS) -> Work:
        """Compares manifest, source and output, on the connected cluster if the manifest is large. Changes nothing."""
        run = 1 + last_run(entry.name for entry in self.files)
        if self.resume.fresh or all(entry.name == LOCK for entry in self.target.entries(LEDGER)):
            return Work(run, source)
        by_content = self.resume.verify == "hash"
        terms = Terms(
            model_sha256,
            settings.pixels_digest(),
            self.resume.retry_failed,
            hints,
            settings.limits,
            settings.triage,
            by_content,
        )
        outputs, leftovers = list_outputs(self.target)
        inputs = Inputs(source)
        settled = Settled(inputs.total)
        for found in self._matches(inputs, outputs, terms):
            settled.add(found)
        left, outdated = remaining(inputs, settled, outputs, self.target, terms)
        return Work(run, left, Counter(dict(settled.counts())), settled.stale, [*leftovers, *outdated])

    def _matches(self, inputs: Inputs, outputs: pa.Table, terms: Terms) -> Iterator[Matches]:
        pieces = self._row_pieces() if terms.by_content else self._file_pieces()
        if self.is_large:
            yield from _spread(pieces, (inputs, outputs, self.target, terms))
        else:
            for piece in pieces:
                yield compare_piece(piece, inputs, outputs, self.target, terms)

    def _file_pieces(self) -> Iterator[Piece]:
        names: list[str] = []
        held = 0
        for entry in self.files:
            names.append(entry.name)
            held += entry.size
            if held >= PIECE_BYTES:
                yield Piece(tuple(names))
                names, held = [], 0
        if names:
            yield Piece(tuple(names))

    def _row_pieces(self) -> Iterator[Piece]:
        for entry in self.files:
            with self.target.open(entry.name) as file:
                rows = Archive(file).num_rows
            for start in range(0, rows, HASHED_ROWS):
                yield Piece((entry.name,), start, HASHED_ROWS)


def compare_piece(piece: Piece, inputs: Inputs, outputs: pa.Table, target: Storage, terms: Terms) -> Matches:
    """`compare` for the rows of a piece."""
    tables = [read_rows(target, name, COLUMNS) for name in piece.names]
    rows = pa.concat_tables(tables).slice(piece.start, piece.count)
    return compare(rows, inputs, outputs, target, terms)


def _spread(pieces: Iterator[Piece], shared: tuple[Any, ...]) -> Iterator[Matches]:
    """A hash join in tasks: a piece of the manifest each, with inputs and outputs that a node fetches once."""
    task: Callable[..., Any] = ray.remote(num_cpus=0.5)(compare_piece).remote
    references = [ray.put(item) for item in shared]
    running: deque[Any] = deque()
    for piece in pieces:
        running.append(task(piece, *references))
        if len(running) >= AT_ONCE:
            yield ray.get(running.popleft())
    for reference in running:
        yield ray.get(reference)
