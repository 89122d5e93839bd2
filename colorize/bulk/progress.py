"""What a person sees of a running job: bars on a terminal, and in any case a line every few seconds in a log."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
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
    """Counts of a run so far, from the summaries of the write stage, and how earlier runs settled the other inputs."""

    inputs: int
    ok: int = 0
    skipped: int = 0
    failed: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    work_seconds: float = 0.0
    degraded: int = 0  # colored with a smaller batch, at a smaller size or on the CPU, since memory ran out
    errors: Counter[str] = field(default_factory=Counter)
    before: Counter[tuple[str, str]] = field(default_factory=Counter)  # by status and error code
    later: int = 0  # inputs that are not among these, since the run was to do so many only

    @property
    def now(self) -> int:
        """Inputs that this run has done."""
        return self.ok + self.skipped + self.failed

    @property
    def before_total(self) -> int:
        """Inputs that earlier runs had settled."""
        return self.before.total()

    @property
    def done(self) -> int:
        """Inputs that are accounted for."""
        return self.now + self.before_total

    def all(self, status: str) -> int:
        """Inputs with this status, whichever run gave it to them."""
        return int(getattr(self, status)) + sum(n for (state, _), n in self.before.items() if state == status)

    def all_errors(self) -> Counter[str]:
        """How many inputs failed or were skipped, by code, whichever run found it."""
        return +(self.errors + Counter({code: n for (_, code), n in self.before.items() if code}))

    def add(self, summary: Mapping[str, Any]) -> None:
        """Takes in one row of SUMMARY_SCHEMA."""
        self.ok += summary["ok"]
        self.skipped += summary["skipped"]
        self.failed += summary["failed"]
        self.bytes_in += summary["bytes_in"]
        self.bytes_out += summary["bytes_out"]
        self.work_seconds += summary["seconds"]
        self.errors.update(summary["errors"])
        self.degraded += summary["degraded"]


class Display:
    """Shows totals as they grow: `with Display(totals, seconds) as display: display.update()`."""

    def __init__(
        self, totals: Totals, log_seconds: float, clock: Callable[[], float] = time.monotonic, *, bar: bool = True
    ) -> None:
        self.totals = totals
        self.log_seconds = log_seconds
        self.clock = clock
        self.started = clock()
        self.stop = threading.Event()
        self.ticker = threading.Thread(target=self._log_lines, daemon=True, name="progress")
        self.first: tuple[float, int] | None = None  # when the first images came: start-up is not speed
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
        """Shows the totals' present state."""
        now = self.clock()
        if self.first is None and self.totals.now:
            self.first = (now, self.totals.now)
        if self.bar is not None and self.task is not None:
            text = f"{self.rate():.1f}/s, {duration(self.seconds_left())} left, {self.totals.failed} failed"
            self.bar.update(self.task, completed=self.totals.done, description="coloring", rate=text)

    def _log_lines(self) -> None:
        """A line every few seconds, whether or not anything was finished in between."""
        while not self.stop.wait(self.log_seconds):
            log.info(self.line())

    def rate(self) -> float:
        """Images a second since the first ones came out; before that, and for tiny runs, since the start."""
        now = self.clock()
        since, before = self.first or (self.started, 0)
        if self.totals.now - before < (self.totals.inputs - self.totals.before_total) / 10:
            since, before = self.started, 0
        return (self.totals.now - before) / max(now - since, 1e-3)

    def seconds_left(self) -> float:
        """Estimated time to the end; infinite before anything is done."""
        rate = self.rate()
        return (self.totals.inputs - self.totals.done) / rate if rate > 0 else float("inf")

    def line(self) -> str:
        """`done 120/2000, failed 1, skipped 0, 18.2 images/s, 1m43s left`."""
        t = self.totals
        earlier = f" ({t.before_total} by earlier runs)" if t.before_total else ""
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
