"""The bulk job, as called by `colorize bulk` and `jobs/bulk_colorize.py`."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from types import FrameType

from colorize.bulk.assembly import Assembly
from colorize.bulk.ledger.compaction import Compacted, compact
from colorize.bulk.ledger.fresh import finish_reset, replaced_outputs, reset_manifest
from colorize.bulk.ledger.lost import ARCHIVE_UNREADABLE, Lost
from colorize.bulk.ledger.manifest import RUN_FILE
from colorize.bulk.ledger.presence import PresenceCheck
from colorize.bulk.limit import limited
from colorize.bulk.load import Loader, Stamp
from colorize.bulk.merging import Merging
from colorize.bulk.progress import Display
from colorize.bulk.resume import Ledger, Work
from colorize.bulk.run_log import JsonLines, run_log
from colorize.bulk.run_report import Counts, RunReport
from colorize.bulk.settings import BulkJob, BulkSettings
from colorize.bulk.sinks import FolderSink, MixedSink, ParquetSink, Sink
from colorize.bulk.worker_stats import note
from colorize.bulk.write import Writer
from colorize.cluster.plan import StagePlan
from colorize.cluster.session import plan_for_cluster, ray_session
from colorize.datasets.hints import NO_HINTS, Hints, read_hints
from colorize.datasets.sources import Source, open_source
from colorize.errors import EXIT_STOPPED, StoppedError, UsageError
from colorize.imaging.canvas import Canvases
from colorize.predict.model_files import ModelFile, find_model, require_settings
from colorize.predict.upstream import Upstream, sized, upstream_of
from colorize.storage.faults import storage_exhausted
from colorize.storage.lock import exclusive
from colorize.storage.root import LEDGER, Storage, overlap

log = logging.getLogger("colorize")


@dataclass(frozen=True)
class Prepared:
    """A job whose input, output and model have been checked, with settings adapted to the model."""

    job: BulkJob
    source: Source
    target: Storage
    model: ModelFile
    presence_check: PresenceCheck
    hints: Hints = NO_HINTS
    upstream: Upstream | None = None

    @property
    def settings(self) -> BulkSettings:
        return self.job.settings

    def ledger(self) -> Ledger:
        """The current manifest of earlier runs."""
        return Ledger.of(self.target, self.job.resume, self.presence_check)

    def work(self, ledger: Ledger) -> Work:
        """The inputs that earlier runs have not completed, at most `job.limit` of them."""
        work = ledger.plan(self.source, self.model.sha256, self.settings, self.hints)
        return work if self.job.limit is None else limited(work, self.job.limit)

    def loader(self, run: int) -> Loader:
        """The load stage of the run with this number."""
        s = self.settings
        stamp = Stamp(self.model.name, self.model.sha256, s.pixels_digest(), run)
        # The writer reads local files again, from the page cache: that is faster than copying their bytes through the
        # object store and the predictors.
        inline, area = 0 if self.source.storage.is_local else s.source.inline_bytes, s.colorizer.size**2
        canvases = Canvases(self.model.canvas or s.colorizer.size, self.model.stride)
        return Loader(
            self.source.reader,
            s.limits,
            s.triage,
            canvases,
            area,
            inline,
            stamp,
            self.hints,
            self.upstream,
            all_pages=s.output.pages == "all",
        )

    def writer(self, sink: Sink) -> Writer:
        """The write stage for `sink`."""
        s = self.settings
        inline, on_disk = s.source.inline_bytes, self.target.is_local
        return Writer(self.source.storage, sink, s.limits, s.output, inline, on_disk, self.upstream)

    def sink(self) -> Sink:
        """The sink for files and archives."""
        return MixedSink(FolderSink(self.target, self.settings.output.write_threads), ParquetSink(self.target))

    def assembly(self, work: Work) -> Assembly:
        """The assembly of the run's archives."""
        return Assembly(work.remaining, self.target, self.model.sha256, self.settings.pixels_digest())


def run_bulk(job: BulkJob) -> RunReport:
    """Runs the job and returns the content of `run.json`. Inputs that earlier runs have completed are not redone.

    Raises:
        UsageError: input, output, model or cluster cannot be used. Nothing was written.
        StoppedError: stopped by a signal or a full disk. Finished work is in the manifest.
    """
    started = time.time()
    prepared = prepare(job)
    with exclusive(prepared.target):
        return _run_prepared(prepared, started)


def _run_prepared(prepared: Prepared, started: float) -> RunReport:
    job = prepared.job
    ledger = prepared.ledger()
    work = None if ledger.needs_cluster else prepared.work(ledger)
    if work is not None and work.is_empty:
        report = _report(prepared, work, started)
        with run_log(prepared.target, _formatter(report), job.verbosity):
            log.info("nothing to do: earlier runs have completed all %d inputs", report.totals.earlier_total)
            _finish(prepared, report, work, {})
        return report
    with (
        ray_session(job.ray_address) as may_grow,
        _terminable() as stop,
    ):  # in this order, because Ray installs signal handlers, too
        plan = plan_for_cluster(job.settings.pool, job.settings.run.start_seconds, may_grow)
        work = work or prepared.work(ledger)
        report = _report(prepared, work, started, plan)
        with run_log(prepared.target, _formatter(report), job.verbosity):
            _run(prepared, report, work, stop)
    return report


def _report(prepared: Prepared, work: Work, started: float, plan: StagePlan | None = None) -> RunReport:
    counts = Counts.of(prepared.source.total, work)
    return RunReport(prepared.job, prepared.model, work.run, started, counts, plan)


def _formatter(report: RunReport) -> logging.Formatter | None:
    return JsonLines(report.id) if report.job.settings.run.log_format == "json" else None


def prepare(job: BulkJob, writes: bool = True) -> Prepared:
    """Checks everything that can be checked before Ray starts; write access only if `writes`.

    Raises:
        UsageError: one line that says what to change.
    """
    source, target = Storage(job.input), Storage(job.output)
    _require_apart(source, target)  # fast, so before finding the model and listing the input
    target.require_no_links(LEDGER)
    if writes:
        target.check_writable()
    model = find_model(job.model)
    require_settings(model, job.settings.colorizer)
    upstream = upstream_of(job.settings.output.processing, model.architecture)
    presence_check = PresenceCheck.start(target, wanted=not job.resume.fresh)
    found = open_source(job.input, job.settings.source, job.input_list, job.settings.limits)
    hints = _hints(job.hints, model, found) if job.hints else NO_HINTS
    fitted = replace(job, settings=sized(job.settings, upstream))
    return Prepared(fitted, found, target, model, presence_check, hints, upstream)


def _hints(uri: str, model: ModelFile, source: Source) -> Hints:
    from colorize.models import require_takes_hints  # torch takes seconds

    require_takes_hints(model.architecture)
    if source.parts is not None:
        raise UsageError(f"--hints {uri} is for files, but the input is Parquet: color these images from a folder")
    hints = read_hints(uri)
    hints.require_known(source.names())
    return hints


def _require_apart(source: Storage, target: Storage) -> None:
    """Raises UsageError if outputs could become or replace inputs."""
    folder = source.parent() if source.is_file() else source
    beside = folder is not source and target.real_root != folder.real_root  # allowed for a single file
    if not beside and overlap(folder, target):
        raise UsageError(f"--output {target.url()} and --input {source.url()} overlap: choose an output folder outside")


def _run(prepared: Prepared, report: RunReport, work: Work, stop: threading.Event) -> None:
    assembly = prepared.assembly(work)
    try:
        if prepared.job.resume.fresh:  # only after the cluster has been checked
            reset_manifest(prepared.target)
        prepared.target.delete_all(work.leftovers)
        _save(prepared.target, report)
        _announce(prepared, report)
        _consume(prepared, report, work, assembly, stop)
        _finish(prepared, report, work, assembly.lost)
    except (Exception, KeyboardInterrupt) as error:
        report.end("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        with suppress(Exception):  # the cause may affect this, too; each storage library has its own exceptions
            _save(prepared.target, report)  # the existing parts are the manifest; the next run compacts them
        if isinstance(error, KeyboardInterrupt):
            done = f"at least {report.totals.done} of {report.totals.inputs} inputs are done and in the manifest"
            raise StoppedError(f"stopped; {done}; run the same command again to resume", EXIT_STOPPED) from None
        if reason := storage_exhausted(error):
            raise StoppedError(f"{reason}; finished work is kept: run the same command again to resume") from error
        raise


def _finish(prepared: Prepared, report: RunReport, work: Work, lost: dict[str, Lost]) -> None:
    """Compacts the manifest and saves the report, with the totals of the manifest."""
    rows = prepared.job.settings.output.manifest_rows
    found = compact(prepared.target, work.run, rows, lost, work.stale)
    _set_totals(report, found)
    archives = prepared.source.versions
    for name in (*found.orphans, *replaced_outputs(prepared.target)):  # copies of inputs that fail or are renamed now
        if name not in archives and name.rpartition("#")[0] not in archives:
            prepared.target.delete(name)
    finish_reset(prepared.target)
    if report.totals.degraded:
        log.warning("%d images were colored with reduced batch or image size: see `degraded`", report.totals.degraded)
    prepared.target.delete_temporary_files()
    complete = report.totals.done == report.totals.inputs
    report.end("finished" if complete else "failed")
    _save(prepared.target, report)
    if not complete:
        raise RuntimeError(f"the manifest has {report.totals.done} rows for {report.totals.inputs} inputs")


def _set_totals(report: RunReport, found: Compacted) -> None:
    totals = report.totals
    totals.ok, totals.skipped, totals.failed = (found.states[status] for status in ("ok", "skipped", "failed"))
    totals.errors = found.errors
    totals.earlier -= found.lost_earlier
    totals.earlier["failed", ARCHIVE_UNREADABLE] += found.lost_earlier.total()


def _consume(prepared: Prepared, report: RunReport, work: Work, assembly: Assembly, stop: threading.Event) -> None:
    from colorize.bulk.pipeline import MODEL_FILE, stream  # importing Ray Data takes a second; only if there is work

    merging = Merging(prepared.target, work.run)
    prepared.target.write(MODEL_FILE, prepared.model.data)
    plan, settings = report.plan, prepared.settings
    assert plan is not None
    loader, writer = prepared.loader(work.run), prepared.writer(prepared.sink())
    checkpoint = partial(prepared.target.read, MODEL_FILE)
    remaining = replace(work.remaining, least_tasks=plan.least_tasks)
    windows = (stream(part, loader, writer, plan, settings, checkpoint) for part in remaining.windows())
    summaries = chain.from_iterable(windows)
    with Display(report.totals, settings.run.log_seconds, bar=prepared.job.verbosity == "normal") as display:
        for summary in summaries:
            if stop.is_set():
                raise KeyboardInterrupt
            report.counts.add(summary, [note("driver")])
            assembly.add(summary["parts"])
            merging.add(summary["manifest_part"])
            display.update()
        assembly.finish()
        merging.finish()


def _announce(prepared: Prepared, report: RunReport) -> None:
    plan = report.plan
    assert plan is not None
    most = plan.pool_limit or "more"
    pool = f"{plan.min_actors} to {most} {plan.device} predictors of {plan.cpus_per_actor:g} CPUs"
    log.info("%d inputs from %s to %s", prepared.source.total, prepared.job.input, prepared.job.output)
    if report.totals.earlier_total:
        log.info("%d of them were completed by earlier runs", report.totals.earlier_total)
    if report.totals.deferred:
        log.info("%d of them are not part of this run: --limit %s", report.totals.deferred, prepared.job.limit)
    log.info("model %s (%s), %s", prepared.model.name, prepared.model.sha256[:12], pool)


def _save(target: Storage, report: RunReport) -> None:
    target.write(RUN_FILE, json.dumps(report.as_dict(), indent=1).encode())


@contextmanager
def _terminable() -> Iterator[threading.Event]:
    """Makes SIGTERM (`ray job stop`, a spot interruption) raise KeyboardInterrupt like Ctrl-C.

    Also sets the event that it yields, because a library's callback may swallow the exception.
    """
    stopped = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        stopped.set()
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopped
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
