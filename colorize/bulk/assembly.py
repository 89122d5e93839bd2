"""Joins the fragments of each Parquet archive as soon as all of its rows are done, while the job continues."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable

import ray

from colorize.bulk.joining import assemble
from colorize.bulk.ledger.lost import Lost
from colorize.bulk.sinks import FRAGMENTS, fragments_of
from colorize.datasets.sources import Source
from colorize.storage.root import Storage

MAX_TASKS = 4

# Tasks without CPUs, because the stages may occupy all of them, and these mostly do I/O.
_assemble: Callable[..., ray.ObjectRef[Lost]] = ray.remote(num_cpus=0)(assemble).remote
_delete = ray.remote(num_cpus=0)(Storage.delete_tree)  # separate, so that a retried task finds all fragments


class Assembly:
    """Counts finished rows per archive and joins each complete archive in a Ray task, a few at a time.

    Attributes:
        lost: the archives with losses, by name.
    """

    def __init__(self, source: Source, target: Storage, model_sha256: str, settings_sha256: str) -> None:
        self.origin = model_sha256, settings_sha256
        self.identities = source.versions
        self.source = source.storage
        self.target = target
        self.pending = Counter(source.parts or {})
        self.waiting = deque(part for part, rows in self.pending.items() if rows == 0)
        self.running: dict[ray.ObjectRef[Lost], str] = {}
        self.deletions: list[ray.ObjectRef[None]] = []
        self.lost: dict[str, Lost] = {}

    def add(self, parts: Iterable[str]) -> None:
        """Counts finished rows, given by their archives, and starts tasks for complete archives."""
        for part, rows in Counter(parts).items():
            self.pending[part] -= rows
            if self.pending[part] == 0:
                self.waiting.append(part)
        self._advance(timeout=0)

    def finish(self) -> None:
        """Joins all complete archives. The fragments of incomplete archives are kept for a later run."""
        while self.waiting or self.running:
            self._advance(timeout=None)
        ray.get(self.deletions)
        if not any(self.pending.values()):
            self.target.delete_tree(FRAGMENTS)

    def _advance(self, timeout: float | None) -> None:
        while self.waiting and len(self.running) < MAX_TASKS:
            part = self.waiting.popleft()
            joined = _assemble(self.source, self.target, part, self._fragments(part), self.identities[part])
            self.running[joined] = part
        ready, _ = ray.wait(list(self.running), timeout=timeout) if self.running else ([], [])
        for reference in ready:
            part = self.running.pop(reference)
            if lost := ray.get(reference):
                self.lost[part] = lost
            if not lost.reason:
                self.deletions.append(_delete.remote(self.target, self._fragments(part)))

    def _fragments(self, part: str) -> str:
        return fragments_of(part, *self.origin, self.identities[part])
