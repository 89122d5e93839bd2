"""Merges small parts of the manifest during the run, so that the final compaction has few parts to read."""

from __future__ import annotations

import ray

from colorize.bulk.ledger.compaction import merge
from colorize.storage.root import Storage

PARTS = 512  # merged by one task; a write task writes one of about 16 rows

# Tasks without CPUs, because the stages may occupy all of them, and these mostly do I/O.
_merge = ray.remote(num_cpus=0)(merge)


class Merging:
    """Collects finished parts and merges them in Ray tasks, one task at a time."""

    def __init__(self, target: Storage, run: int) -> None:
        self.target = target
        self.run = run
        self.waiting: dict[str, None] = {}  # an ordered set, because a retried task reports its part twice
        self.running: ray.ObjectRef[str] | None = None

    def add(self, part: str) -> None:
        """Adds a part, and starts a task if there are enough parts."""
        self.waiting[part] = None
        if len(self.waiting) >= PARTS and self._is_free():
            self.running = _merge.remote(self.target, self.run, list(self.waiting))
            self.waiting = {}

    def finish(self) -> None:
        """Waits for the running task; the final compaction merges the other parts."""
        if self.running is not None:
            ray.get(self.running)

    def _is_free(self) -> bool:
        if self.running is None:
            return True
        done, _ = ray.wait([self.running], timeout=0)
        if done:
            ray.get(done[0])  # raises storage errors, which stop the run as in a write task
        return bool(done)
