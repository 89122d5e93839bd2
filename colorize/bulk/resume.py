"""Resuming: finds the inputs that earlier runs with the same output have not completed."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ray

from colorize.bulk.ledger.comparison import compare_all
from colorize.bulk.ledger.completed import Contents, Criteria, Inputs, Mask, Outcome
from colorize.bulk.ledger.manifest import last_run, part_entries
from colorize.bulk.ledger.presence import PresenceCheck
from colorize.bulk.ledger.remaining import find_remaining
from colorize.bulk.settings import BulkSettings, Resume
from colorize.datasets.hints import NO_HINTS, Hints
from colorize.datasets.sources import Source
from colorize.storage.listing import Entry
from colorize.storage.lock import LOCK
from colorize.storage.root import LEDGER, Storage

MAX_TASKS = 32  # concurrent tasks that read and hash images


@dataclass
class Work:
    """The work of a run.

    Attributes:
        run: its number.
        remaining: the inputs to color.
        earlier: the outcomes of the inputs that earlier runs have completed.
        stale: paths of manifest rows to delete, because they refer to a former version of an archive.
        leftovers: files to delete: temporary files of killed runs, and fragments to be redone.
        deferred: number of remaining inputs that are not part of this run (`--limit`).
    """

    run: int
    remaining: Source
    earlier: Counter[Outcome] = field(default_factory=Counter)
    stale: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    deferred: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is no input to color and no archive to assemble."""
        return not self.remaining.units.num_rows and not self.remaining.parts


@dataclass
class Ledger:
    """The manifest of earlier runs in an output, not yet compared with the source."""

    target: Storage
    files: list[Entry]
    resume: Resume
    presence_check: PresenceCheck

    @classmethod
    def of(cls, target: Storage, resume: Resume, presence_check: PresenceCheck) -> Ledger:
        return cls(target, part_entries(target), resume, presence_check)

    @property
    def needs_cluster(self) -> bool:
        """Whether the comparison reads and hashes images, which runs on the cluster."""
        return self.resume.verify == "hash" and bool(self.files) and not self.resume.fresh

    def plan(self, source: Source, model_sha256: str, settings: BulkSettings, hints: Hints = NO_HINTS) -> Work:
        """Compares manifest, source and output, on the connected cluster if `needs_cluster`. Changes nothing."""
        run = 1 + last_run(entry.name for entry in self.files)
        if self.resume.fresh or all(entry.name == LOCK for entry in self.target.entries(LEDGER)):
            return Work(run, source)
        criteria = Criteria(
            model_sha256,
            settings.pixels_digest(),
            self.resume.retry_failed,
            hints,
            settings.limits,
            settings.triage,
            by_content=self.resume.verify == "hash",
        )
        inputs = Inputs(source)
        found = compare_all(inputs, self.target, self.files, criteria, self.presence_check.result(self.files), _verify)
        remaining, outdated = find_remaining(inputs, found, self.target, criteria)
        earlier = Counter(dict(found.completed.counts()))
        return Work(run, remaining, earlier, found.completed.stale, [*found.outputs.leftovers, *outdated])


def _verify(contents: Iterable[Contents]) -> Iterator[Mask]:
    """Reads and hashes in Ray tasks."""
    task: Callable[..., Any] = ray.remote(num_cpus=0.5)(Contents.are_same).remote
    running: deque[Any] = deque()
    for each in contents:
        running.append(task(each))
        if len(running) >= MAX_TASKS:
            yield ray.get(running.popleft())
    for reference in running:
        yield ray.get(reference)
