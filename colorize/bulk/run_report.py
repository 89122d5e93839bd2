"""The content of `run.json`: the arguments and results of a bulk run."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from colorize.bulk.progress import STATUSES, Totals
from colorize.bulk.resume import Work
from colorize.bulk.run_log import run_id
from colorize.bulk.settings import BulkJob
from colorize.bulk.worker_stats import WorkerStats
from colorize.cluster.plan import StagePlan
from colorize.predict.model_files import ModelFile

SUMMARY = (
    "id",
    "state",
    "input",
    "output",
    "started",
    "finished",
    "seconds",
    "pictures_per_second",
    "totals",
    "errors",
)
RECORDED_PACKAGES = ("colorize", "ray", "torch", "numpy", "pillow", "pyarrow", "imagecodecs", "jpeglib")


@dataclass
class Counts:
    """The counters of a run."""

    totals: Totals
    worker_stats: WorkerStats
    first_done: float | None = None

    @classmethod
    def of(cls, inputs: int, work: Work) -> Counts:
        """The counters at the start of a run over `inputs` inputs."""
        totals = Totals(inputs - work.deferred, earlier=Counter(work.earlier), deferred=work.deferred)
        return cls(totals, WorkerStats(work.remaining.total))

    def add(self, summary: Mapping[str, Any], notes: Iterable[str] = ()) -> None:
        """Adds one row of SUMMARY_SCHEMA, and notes of other processes."""
        self.totals.add(summary)
        self.first_done = self.first_done or time.time()
        self.worker_stats.add([*summary["notes"], *notes], self.totals.now)


@dataclass
class RunReport:
    """A run and its results, as stored in `run.json`."""

    job: BulkJob
    model: ModelFile
    run: int
    started: float
    counts: Counts
    plan: StagePlan | None = None
    state: str = "running"
    finished: float | None = None

    @property
    def totals(self) -> Totals:
        """The totals of the run so far."""
        return self.counts.totals

    @property
    def id(self) -> str:
        """The run's id, which is also in its log."""
        return run_id(self.started, self.job.output)

    @property
    def failed_fraction(self) -> float:
        """Failed inputs as a fraction of all inputs with a manifest row, including those of earlier runs."""
        return self.totals.all("failed") / max(self.totals.done, 1)

    def end(self, state: str) -> None:
        """Marks the end of the run."""
        self.state, self.finished = state, time.time()

    def summary(self) -> dict[str, Any]:
        """The most important fields, for `--json`."""
        return {name: value for name, value in self.as_dict().items() if name in SUMMARY}

    def as_dict(self) -> dict[str, Any]:
        """All fields, for `run.json`."""
        t, first, end = self.totals, self.counts.first_done, self.finished or time.time()
        seconds = max(end - self.started, 1e-6)
        return {
            "id": self.id,
            "state": self.state,
            "run": self.run,
            "command": list(self.job.command),
            "input": self.job.input,
            "output": self.job.output,
            "input_list": self.job.input_list,
            "model": {"name": self.model.name, "architecture": self.model.architecture, "sha256": self.model.sha256},
            "settings": self.job.settings.model_dump(mode="json"),
            "settings_sha256": self.job.settings.pixels_digest(),
            "plan": asdict(self.plan) if self.plan else None,
            "versions": {"python": platform.python_version(), **{p: version(p) for p in RECORDED_PACKAGES}},
            "started": _iso(self.started),
            "finished": _iso(self.finished) if self.finished else None,
            "seconds": round(seconds, 3),
            "seconds_to_first_output": round(first - self.started, 3) if first else None,
            "pictures_per_second": round(t.now / seconds, 3),
            "totals": {
                "inputs": t.inputs, **{status: t.all(status) for status in STATUSES}, "done_before": t.earlier_total,
                "left": t.deferred + t.inputs - t.done,
                "bytes_in": t.bytes_in, "bytes_out": t.bytes_out, "work_seconds": round(t.work_seconds, 3),
                "degraded": t.degraded,
            },
            "errors": dict(t.all_errors().most_common()),
            "processes": self.counts.worker_stats.report(),
        }  # fmt: skip


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
