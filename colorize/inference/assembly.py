"""Joins each Parquet archive's fragments as soon as all of its rows are done, while the rest still runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import ray

from colorize.data.sinks import FRAGMENTS, assemble
from colorize.data.sources import Source
from colorize.data.storage import Storage


class Assembly:
    """Counts finished rows per archive and starts the joining of each complete one as a Ray task."""

    def __init__(self, source: Source, target: Storage) -> None:
        self.source = source.storage
        self.target = target
        self.left = Counter(source.parts or {})
        self.running: list[ray.ObjectRef[None]] = []
        for part in [part for part, rows in self.left.items() if rows == 0]:
            self._start(part)

    def add(self, parts: Iterable[str]) -> None:
        """Takes note of finished rows, given as the archive of each."""
        for part, rows in Counter(parts).items():
            self.left[part] -= rows
            if self.left[part] == 0:
                self._start(part)

    def finish(self) -> None:
        """Waits for the last archives; raises what went wrong with one."""
        ray.get(self.running)
        self.target.delete_tree(FRAGMENTS)

    def _start(self, part: str) -> None:
        # No CPUs are asked for: the stages may hold them all, and this is mostly reading and writing.
        join = ray.remote(num_cpus=0)(assemble)
        self.running.append(join.remote(self.source, self.target, part))
