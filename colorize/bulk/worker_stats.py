"""Memory of the worker processes: each stage adds a note to its rows, and the driver collects them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import psutil


def note(role: str) -> str:
    """This process as `role host pid megabytes`: its resident memory without shared pages (the object store)."""
    memory = psutil.Process().memory_info()
    megabytes = (memory.rss - getattr(memory, "shared", 0)) / 2**20
    return f"{role} {socket.gethostname()} {os.getpid()} {megabytes:.1f}"


@dataclass
class WorkerStats:
    """Peak memory per process and quarter of the run."""

    total: int
    done: int = 0
    peaks: dict[tuple[str, str, int], list[float]] = field(default_factory=dict)

    def add(self, notes: Iterable[str], done: int) -> None:
        """Adds notes that were made when about `done` inputs were finished."""
        self.done = max(self.done, done)
        quarter = min(3, 4 * done // max(self.total, 1))
        for text in notes:
            role, host, pid, megabytes = text.rsplit(" ", 3)
            peaks = self.peaks.setdefault((role, host, int(pid)), [0.0] * 4)
            peaks[quarter] = max(peaks[quarter], float(megabytes))

    def report(self) -> list[dict[str, Any]]:
        """One entry per process: its role, its peak, and its peak within each quarter (null if idle)."""
        return [
            {
                "role": role,
                "host": host,
                "pid": pid,
                "peak_mb": round(max(peaks), 1),
                "peak_mb_by_quarter": [round(peak, 1) or None for peak in peaks],
            }
            for (role, host, pid), peaks in sorted(self.peaks.items())
        ]
