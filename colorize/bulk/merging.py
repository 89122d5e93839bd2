"""Joins small parts of the manifest into larger ones while the run goes on, so that its end finds few of them."""

from __future__ import annotations

import ray

from colorize.bulk.ledger.compaction import merge
from colorize.storage.root import Storage

PARTS = 512  # that one task joins; a write task leaves one of about 16 rows

# No CPUs are asked for: the stages may hold them all, and this is mostly reading and writing.
_merge = ray.remote(num_cpus=0)(merge)


class Merging:
    """Takes note of finished parts and has them joined by Ray tasks, one at a time."""

    def __init__(self, target: Storage, run: int) -> None:
        self.target = target
        self.run = run
        self.waiting: dict[str, None] = {}  # in order; a task that ran twice names its part twice
        self.running: ray.ObjectRef[str] | None = None

    def add(self, part: str) -> None:
        """Takes note of a part; starts what can be started."""
        self.waiting[part] = None
        if len(self.waiting) >= PARTS and self._is_free():
            self.running = _merge.remote(self.target, self.run, list(self.waiting))
            self.waiting = {}

    def finish(self) -> None:
        """Waits for what is running; what is left is few enough for the end's compaction."""
        if self.running is not None:
            ray.get(self.running)

    def _is_free(self) -> bool:
        if self.running is None:
            return True
        done, _ = ray.wait([self.running], timeout=0)
        if done:
            ray.get(done[0])  # a fault of the storage stops the run, as it would in a write task
        return bool(done)
