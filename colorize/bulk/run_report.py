"""What one bulk run is asked to do, and how it went: the content of `run.json`."""

from __future__ import annotations

import platform
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from colorize.bulk.census import Census
from colorize.bulk.progress import STATUSES, Totals
from colorize.bulk.resume import Resume, Work
from colorize.bulk.run_log import run_id
from colorize.bulk.settings import BulkSettings
from colorize.cluster.plan import StagePlan
from colorize.predict.model_files import DEFAULT_MODEL, ModelFile

RECORDED_PACKAGES = ("colorize", "ray", "torch", "numpy", "pillow", "pyarrow", "imagecodecs", "jpeglib")


@dataclass(frozen=True)
class BulkJob:
    """What one bulk run is asked to do."""

    input: str
    output: str
    model: str = DEFAULT_MODEL
    input_list: str | None = None
    ray_address: str | None = None
    settings: BulkSettings = field(default_factory=BulkSettings)
    command: tuple[str, ...] = ()
    resume: Resume = field(default_factory=Resume)
    hints: str | None = None


@dataclass
class RunReport:
    """How a run went: what `run.json` holds."""

    job: BulkJob
    model: ModelFile
    totals: Totals
    census: Census
    run: int
    started: float
    plan: StagePlan | None = None
    state: str = "running"
    first_done: float | None = None
    finished: float | None = None

    @property
    def id(self) -> str:
        """What the run is called in its log."""
        return run_id(self.started, self.job.output)

    @property
    def failed_fraction(self) -> float:
        """Failed inputs among all that are accounted for, those of earlier runs too."""
        return self.totals.all("failed") / max(self.totals.done, 1)

    @classmethod
    def of(
        cls, job: BulkJob, model: ModelFile, inputs: int, work: Work, started: float, plan: StagePlan | None = None
    ) -> RunReport:
        """The report of a run that is about to start."""
        census = Census(work.left.total)
        return cls(job, model, Totals(inputs, before=Counter(work.before)), census, work.run, started, plan)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        t, end = self.totals, self.finished or time.time()
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
            "plan": self.plan.as_dict() if self.plan else None,
            "versions": {"python": platform.python_version(), **{p: version(p) for p in RECORDED_PACKAGES}},
            "started": _iso(self.started),
            "finished": _iso(self.finished) if self.finished else None,
            "seconds": round(seconds, 3),
            "seconds_to_first_output": round(self.first_done - self.started, 3) if self.first_done else None,
            "pictures_per_second": round(t.now / seconds, 3),
            "totals": {
                "inputs": t.inputs, **{status: t.all(status) for status in STATUSES}, "done_before": t.before_total,
                "bytes_in": t.bytes_in, "bytes_out": t.bytes_out, "work_seconds": round(t.work_seconds, 3),
                "degraded": t.degraded,
            },
            "errors": dict(t.all_errors().most_common()),
            "processes": self.census.report(),
        }  # fmt: skip


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
