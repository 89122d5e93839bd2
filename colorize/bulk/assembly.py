"""Joins each Parquet archive's fragments as soon as all of its rows are done, while the rest still runs."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable

import ray

from colorize.bulk.joining import assemble
from colorize.bulk.ledger.lost import Lost
from colorize.bulk.sinks import FRAGMENTS, fragments_of
from colorize.datasets.sources import Source
from colorize.storage.root import Storage

AT_ONCE = 4

# No CPUs are asked for: the stages may hold them all, and this is mostly reading and writing.
_assemble: Callable[..., ray.ObjectRef[Lost]] = ray.remote(num_cpus=0)(assemble).remote
_clear = ray.remote(num_cpus=0)(Storage.delete_tree)  # apart: a task that is run again finds all fragments or none


class Assembly:
    """Counts finished rows per archive and joins each complete one in a Ray task, a few at a time.

    Attributes:
        lost: archives that could not be written as a whole, and what of each.
    """

    def __init__(self, source: Source, target: Storage, model_sha256: str, settings_sha256: str) -> None:
        self.made_by = model_sha256, settings_sha256
        self.identities = source.versions
        self.source = source.storage
        self.target = target
        self.left = Counter(source.parts or {})
        self.waiting = deque(part for part, rows in self.left.items() if rows == 0)
        self.running: dict[ray.ObjectRef[Lost], str] = {}
        self.clearing: list[ray.ObjectRef[None]] = []
        self.lost: dict[str, Lost] = {}

    def add(self, parts: Iterable[str]) -> None:
        """Takes note of finished rows, given as the archive of each; starts what can be started."""
        for part, rows in Counter(parts).items():
            self.left[part] -= rows
            if self.left[part] == 0:
                self.waiting.append(part)
        self._advance(timeout=0)

    def finish(self) -> None:
        """Joins what is left. Finished rows stay where a later run will do the others of their archive."""
        while self.waiting or self.running:
            self._advance(timeout=None)
        ray.get(self.clearing)
        if not any(self.left.values()):
            self.target.delete_tree(FRAGMENTS)

    def _advance(self, timeout: float | None) -> None:
        while self.waiting and len(self.running) < AT_ONCE:
            part = self.waiting.popleft()
            joined = _assemble(self.source, self.target, part, self._fragments(part), self.identities[part])
            self.running[joined] = part
        ready, _ = ray.wait(list(self.running), timeout=timeout) if self.running else ([], [])
        for reference in ready:
            part = self.running.pop(reference)
            if lost := ray.get(reference):
                self.lost[part] = lost
            if not lost.reason:
                self.clearing.append(_clear.remote(self.target, self._fragments(part)))

    def _fragments(self, part: str) -> str:
        return fragments_of(part, *self.made_by, self.identities[part])
