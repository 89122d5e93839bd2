"""The bulk job from its first check to its last line: what `colorize bulk` and `jobs/bulk_colorize.py` call."""

from __future__ import annotations

import json
import logging
import platform
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from types import FrameType
from typing import Any

from colorize.config import BulkSettings, UsageError
from colorize.data.manifest import LEDGER, MANIFEST, compact
from colorize.data.model_files import DEFAULT_MODEL, ModelFile, find_model
from colorize.data.sinks import FRAGMENTS, FolderSink, ParquetSink
from colorize.data.sources import Source, open_source
from colorize.data.storage import Storage, overlap
from colorize.inference.assembly import Assembly
from colorize.inference.census import Census, note
from colorize.inference.cluster import plan_for_cluster, ray_session
from colorize.inference.load import Loader, Stamp
from colorize.inference.pipeline import MODEL_FILE, stream
from colorize.inference.plan import StagePlan
from colorize.inference.progress import Display, Totals
from colorize.inference.run_log import JsonLines, run_id, run_log
from colorize.inference.write import Writer

log = logging.getLogger("colorize")

RUN_FILE = f"{LEDGER}/run.json"
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


@dataclass(frozen=True)
class Prepared:
    """A job whose input, output and model were found usable."""

    job: BulkJob
    source: Source
    target: Storage
    model: ModelFile

    def loader(self) -> Loader:
        settings = self.job.settings
        stamp = Stamp(self.model.name, self.model.sha256, settings.pixels_digest())
        inline = settings.source.inline_bytes
        return Loader(self.source.reader, settings.limits, settings.colorizer.size**2, inline, stamp)

    def writer(self) -> Writer:
        settings = self.job.settings
        sink = (
            FolderSink(self.target, settings.output.write_threads)
            if self.source.parts is None
            else ParquetSink(self.target)
        )
        return Writer(self.source.storage, sink, settings.limits.max_pixels)


@dataclass
class RunReport:
    """How a run went: what `run.json` holds."""

    job: BulkJob
    model: ModelFile
    totals: Totals
    census: Census
    plan: StagePlan | None = None
    state: str = "running"
    started: float = field(default_factory=time.time)
    first_done: float | None = None
    finished: float | None = None

    @property
    def failed_fraction(self) -> float:
        """Failed inputs among all that are accounted for."""
        return self.totals.failed / max(self.totals.done, 1)

    @property
    def id(self) -> str:
        """What the run is called in its log."""
        return run_id(self.started, self.job.output)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        t, end = self.totals, self.finished or time.time()
        seconds = max(end - self.started, 1e-6)
        return {
            "id": self.id,
            "state": self.state,
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
            "pictures_per_second": round(t.done / seconds, 3),
            "totals": {
                "inputs": t.inputs, "ok": t.ok, "skipped": t.skipped, "failed": t.failed,
                "bytes_in": t.bytes_in, "bytes_out": t.bytes_out, "work_seconds": round(t.work_seconds, 3),
            },
            "errors": dict(t.errors.most_common()),
            "processes": self.census.report(),
        }  # fmt: skip


def run_bulk(job: BulkJob) -> RunReport:
    """Runs the job to its end and returns what `run.json` then holds.

    Raises:
        UsageError: input, output, model or cluster cannot be used. Nothing was written then.
        KeyboardInterrupt: stopped by a signal; what was done is in the manifest.
    """
    prepared = prepare(job)
    census = Census(prepared.source.total)
    report = RunReport(job, prepared.model, Totals(prepared.source.total), census)
    with ray_session(job.ray_address) as may_grow, _terminable():  # in this order: Ray sets a handler of its own
        report.plan = plan_for_cluster(job.settings.pool, job.settings.run.start_seconds, may_grow)
        formatter = JsonLines(report.id) if job.settings.run.log_format == "json" else None
        with run_log(prepared.target, formatter):
            _run(prepared, report)
    return report


def prepare(job: BulkJob) -> Prepared:
    """Checks everything that can be checked before Ray starts.

    Raises:
        UsageError: with one line that says what to change.
    """
    source, target = Storage(job.input), Storage(job.output)
    _require_apart(
        source, target
    )  # asks the storage, within seconds: before the model and the listing, which take some
    target.check_writable()
    model = find_model(job.model)
    return Prepared(job, open_source(job.input, job.settings.source, job.input_list), target, model)


def _require_apart(source: Storage, target: Storage) -> None:
    """A run must never write where it reads: outputs would become inputs, or replace them."""
    folder = source.parent() if source.is_file() else source
    beside = folder is not source and target.root != folder.root  # of a single file only its own folder is taboo
    if not beside and overlap(folder, target):
        raise UsageError(f"--output {target.url()} and --input {source.url()} overlap: choose an output folder outside")


def _run(prepared: Prepared, report: RunReport) -> None:
    for stale in (MANIFEST, FRAGMENTS):
        prepared.target.delete_tree(stale)
    _save(prepared.target, report)
    _announce(prepared, report)
    assembly = Assembly(prepared.source, prepared.target)
    try:
        _consume(prepared, report, assembly)
        report.state = "finished"
    except BaseException as error:
        report.state = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        raise
    finally:
        _close(prepared, report, assembly)
    if report.state != "finished":
        raise RuntimeError(f"the manifest holds {report.totals.done} rows for {prepared.source.total} inputs")


def _close(prepared: Prepared, report: RunReport, assembly: Assembly) -> None:
    """Compacts the manifest and saves the report; the manifest has the last word on how inputs ended."""
    states = compact(prepared.target, prepared.job.settings.output.manifest_rows, assembly.lost)
    totals = report.totals
    totals.errors["archive_unreadable"] += max(0, states["failed"] - totals.failed)
    totals.errors = +totals.errors
    totals.ok, totals.skipped, totals.failed = states["ok"], states["skipped"], states["failed"]
    if report.state == "finished" and totals.done != prepared.source.total:
        report.state = "failed"
    report.finished = time.time()
    _save(prepared.target, report)


def _consume(prepared: Prepared, report: RunReport, assembly: Assembly) -> None:
    assert report.plan is not None
    totals, settings = report.totals, prepared.job.settings
    prepared.target.write(MODEL_FILE, prepared.model.data)
    summaries = stream(prepared.source, prepared.loader(), prepared.writer(), report.plan, settings)
    with Display(totals, settings.run.log_seconds) as display:
        for summary in summaries:
            totals.add(summary)
            report.first_done = report.first_done or time.time()
            report.census.add([*summary["notes"], note("driver")], totals.done)
            assembly.add(summary["parts"])
            display.update()
        assembly.finish()


def _announce(prepared: Prepared, report: RunReport) -> None:
    plan = report.plan
    assert plan is not None
    pool = f"{plan.min_actors} to {plan.max_actors} {plan.device} predictors of {plan.cpus_per_actor:g} CPUs"
    log.info("%d inputs from %s to %s", prepared.source.total, prepared.job.input, prepared.job.output)
    log.info("model %s (%s), %s", prepared.model.name, prepared.model.sha256[:12], pool)


def _save(target: Storage, report: RunReport) -> None:
    target.write(RUN_FILE, json.dumps(report.as_dict(), indent=1).encode())


@contextmanager
def _terminable() -> Iterator[None]:
    """Within the block SIGTERM (`ray job stop`, a spot machine's notice) is what Ctrl-C is."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
