"""Resuming: what an earlier run into the same output has settled, and what is left to do."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ray

from colorize.bulk.ledger.comparison import compare_all
from colorize.bulk.ledger.manifest import last_run, part_entries
from colorize.bulk.ledger.presence import Ahead
from colorize.bulk.ledger.remaining import remaining
from colorize.bulk.ledger.settled import Contents, Inputs, Mask, Outcome, Terms
from colorize.bulk.settings import BulkSettings, Resume
from colorize.datasets.hints import NO_HINTS, Hints
from colorize.datasets.sources import Source
from colorize.storage.listing import Entry
from colorize.storage.lock import LOCK
from colorize.storage.root import LEDGER, Storage

AT_ONCE = 32  # tasks that read and hash images


@dataclass
class Work:
    """What a run has to do.

    Attributes:
        run: its number.
        left: the inputs to color.
        before: how the others ended, in earlier runs.
        stale: manifest rows that speak of no input any more and must go.
        leftovers: files that killed runs left half done, and fragments to be made again: they are deleted, too.
        later: inputs that are left as well, and for another run.
    """

    run: int
    left: Source
    before: Counter[Outcome] = field(default_factory=Counter)
    stale: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    later: int = 0

    @property
    def is_nothing(self) -> bool:
        """Whether no input is left, nor an archive to be put together."""
        return not self.left.units.num_rows and not self.left.parts


@dataclass
class Ledger:
    """The manifest that earlier runs left in an output, before it was compared with anything."""

    target: Storage
    files: list[Entry]
    resume: Resume
    ahead: Ahead

    @classmethod
    def of(cls, target: Storage, resume: Resume, ahead: Ahead) -> Ledger:
        return cls(target, part_entries(target), resume, ahead)

    @property
    def needs_cluster(self) -> bool:
        """Whether comparing it is work for a cluster: images are read and hashed."""
        return self.resume.verify == "hash" and bool(self.files) and not self.resume.fresh

    def plan(self, source: Source, model_sha256: str, settings: BulkSettings, hints: Hints = NO_HINTS) -> Work:
        """Compares manifest, source and output, on the connected cluster if it needs one. Changes nothing."""
        run = 1 + last_run(entry.name for entry in self.files)
        if self.resume.fresh or all(entry.name == LOCK for entry in self.target.entries(LEDGER)):
            return Work(run, source)
        terms = Terms(
            model_sha256,
            settings.pixels_digest(),
            self.resume.retry_failed,
            hints,
            settings.limits,
            settings.triage,
            by_content=self.resume.verify == "hash",
        )
        inputs = Inputs(source)
        found = compare_all(inputs, self.target, self.files, terms, self.ahead.result(self.files), _verify)
        left, outdated = remaining(inputs, found, self.target, terms)
        before = Counter(dict(found.settled.counts()))
        return Work(run, left, before, found.settled.stale, [*found.outputs.leftovers, *outdated])


def _verify(contents: Iterable[Contents]) -> Iterator[Mask]:
    """Reads and hashes in tasks."""
    task: Callable[..., Any] = ray.remote(num_cpus=0.5)(Contents.are_same).remote
    running: deque[Any] = deque()
    for each in contents:
        running.append(task(each))
        if len(running) >= AT_ONCE:
            yield ray.get(running.popleft())
    for reference in running:
        yield ray.get(reference)
