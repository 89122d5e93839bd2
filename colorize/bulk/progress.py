"""Progress of a running job: a bar on a terminal, and a line every few seconds in the log."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from colorize.report.durations import duration

log = logging.getLogger("colorize")


STATUSES = ("ok", "skipped", "failed")


@dataclass
class Totals:
    """Counts of a run so far, from the summaries of the write stage, and outcomes of earlier runs."""

    inputs: int
    ok: int = 0
    skipped: int = 0
    failed: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    work_seconds: float = 0.0
    degraded: int = 0  # colored with the OOM fallback: a smaller batch, a smaller size, or the CPU
    errors: Counter[str] = field(default_factory=Counter)
    earlier: Counter[tuple[str, str]] = field(default_factory=Counter)  # by status and error code
    deferred: int = 0  # remaining inputs that are not part of this run and not counted above (`--limit`)

    @property
    def now(self) -> int:
        """Number of inputs that this run has done."""
        return self.ok + self.skipped + self.failed

    @property
    def earlier_total(self) -> int:
        """Number of inputs that earlier runs have completed."""
        return self.earlier.total()

    @property
    def done(self) -> int:
        """Number of inputs with a manifest row."""
        return self.now + self.earlier_total

    def all(self, status: str) -> int:
        """Number of inputs with this status, of all runs."""
        return int(getattr(self, status)) + sum(n for (state, _), n in self.earlier.items() if state == status)

    def all_errors(self) -> Counter[str]:
        """Number of failed and skipped inputs by error code, of all runs."""
        return +(self.errors + Counter({code: n for (_, code), n in self.earlier.items() if code}))

    def add(self, summary: Mapping[str, Any]) -> None:
        """Adds one row of SUMMARY_SCHEMA."""
        self.ok += summary["ok"]
        self.skipped += summary["skipped"]
        self.failed += summary["failed"]
        self.bytes_in += summary["bytes_in"]
        self.bytes_out += summary["bytes_out"]
        self.work_seconds += summary["seconds"]
        self.errors.update(summary["errors"])
        self.degraded += summary["degraded"]


class Display:
    """Displays totals: `with Display(totals, seconds) as display: display.update()`."""

    def __init__(self, totals: Totals, log_seconds: float, *, bar: bool = True) -> None:
        self.totals = totals
        self.log_seconds = log_seconds
        self.started = time.monotonic()
        self.stop = threading.Event()
        self.ticker = threading.Thread(target=self._log_lines, daemon=True, name="progress")
        self.first: tuple[float, int] | None = None  # time and count of the first images, to exclude start-up
        self.bar = _bar() if bar and sys.stderr.isatty() else None
        self.task: TaskID | None = None

    def __enter__(self) -> Display:
        if self.bar is not None:
            self.bar.start()
            self.task = self.bar.add_task("starting", total=self.totals.inputs, rate="")
        self.ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop.set()
        self.ticker.join()
        if self.bar is not None:
            self.bar.stop()
        log.info(self.line())

    def update(self) -> None:
        """Updates the bar."""
        now = time.monotonic()
        if self.first is None and self.totals.now:
            self.first = (now, self.totals.now)
        if self.bar is not None and self.task is not None:
            text = f"{self.rate():.1f}/s, {duration(self.seconds_left())} left, {self.totals.failed} failed"
            self.bar.update(self.task, completed=self.totals.done, description="coloring", rate=text)

    def _log_lines(self) -> None:
        """Logs a line every few seconds, even without progress."""
        while not self.stop.wait(self.log_seconds):
            log.info(self.line())

    def rate(self) -> float:
        """Images per second since the first images; at the beginning, and for tiny runs, since the start."""
        now = time.monotonic()
        since, before = self.first or (self.started, 0)
        if self.totals.now - before < (self.totals.inputs - self.totals.earlier_total) / 10:
            since, before = self.started, 0
        return (self.totals.now - before) / max(now - since, 1e-3)

    def seconds_left(self) -> float:
        """Estimated remaining time; infinite if nothing is done yet."""
        rate = self.rate()
        return (self.totals.inputs - self.totals.done) / rate if rate > 0 else float("inf")

    def line(self) -> str:
        """A log line: `done 120/2000, failed 1, skipped 0, 18.2 images/s, 1m43s left`."""
        t = self.totals
        earlier = f" ({t.earlier_total} by earlier runs)" if t.earlier_total else ""
        return (
            f"done {t.done}/{t.inputs}{earlier}, failed {t.all('failed')}, skipped {t.all('skipped')}, "
            f"{self.rate():.1f} images/s, {duration(self.seconds_left())} left"
        )


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[rate]}"),
        console=Console(stderr=True),
    )
