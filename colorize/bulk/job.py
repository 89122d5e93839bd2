"""The bulk job from its first check to its last line: what `colorize bulk` and `jobs/bulk_colorize.py` call."""

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
from colorize.bulk.ledger.forgotten import forget, replaced, settle
from colorize.bulk.ledger.lost import ARCHIVE_UNREADABLE, Lost
from colorize.bulk.ledger.manifest import RUN_FILE
from colorize.bulk.ledger.presence import Ahead
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
    """A job whose input, output and model were found usable; its settings are those of this model."""

    job: BulkJob
    source: Source
    target: Storage
    model: ModelFile
    ahead: Ahead
    hints: Hints = NO_HINTS
    upstream: Upstream | None = None

    @property
    def settings(self) -> BulkSettings:
        return self.job.settings

    def ledger(self) -> Ledger:
        """What earlier runs have left, as it is now."""
        return Ledger.of(self.target, self.job.resume, self.ahead)

    def work(self, ledger: Ledger) -> Work:
        """What earlier runs left to do, or as much of it as is asked for."""
        work = ledger.plan(self.source, self.model.sha256, self.settings, self.hints)
        return work if self.job.limit is None else limited(work, self.job.limit)

    def loader(self, run: int) -> Loader:
        """The load stage of the run of this number."""
        s = self.settings
        stamp = Stamp(self.model.name, self.model.sha256, s.pixels_digest(), run)
        # A local file is read again where its copy is written: it is in the page cache, and bytes that pass through the
        # object store and the predictors are copied several times.
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
        """The write stage that fills `sink`."""
        s = self.settings
        inline, on_disk = s.source.inline_bytes, self.target.is_local
        return Writer(self.source.storage, sink, s.limits, s.output, inline, on_disk, self.upstream)

    def sink(self) -> Sink:
        """Where the copies go: into a tree of files, and into archives."""
        return MixedSink(FolderSink(self.target, self.settings.output.write_threads), ParquetSink(self.target))

    def assembly(self, work: Work) -> Assembly:
        """What joins the archives of a run."""
        return Assembly(work.left, self.target, self.model.sha256, self.settings.pixels_digest())


def run_bulk(job: BulkJob) -> RunReport:
    """Runs the job to its end and returns what `run.json` then holds. What earlier runs have settled is not done again.

    Raises:
        UsageError: input, output, model or cluster cannot be used. Nothing was written then.
        StoppedError: stopped by a signal, or by a full disk; what was done is in the manifest.
    """
    started = time.time()
    prepared = prepare(job)
    with exclusive(prepared.target):
        return _run_prepared(prepared, started)


def _run_prepared(prepared: Prepared, started: float) -> RunReport:
    job = prepared.job
    ledger = prepared.ledger()
    work = None if ledger.needs_cluster else prepared.work(ledger)
    if work is not None and work.is_nothing:
        report = _report(prepared, work, started)
        with run_log(prepared.target, _formatter(report), job.verbosity):
            log.info("nothing to do: %d inputs were settled by earlier runs", report.totals.before_total)
            _finish(prepared, report, work, {})
        return report
    with (
        ray_session(job.ray_address) as may_grow,
        _terminable() as stop,
    ):  # in this order: Ray installs its own handlers
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
    """Checks everything that can be checked before Ray starts; unless it `writes`, that it can is left out.

    Raises:
        UsageError: with one line that says what to change.
    """
    source, target = Storage(job.input), Storage(job.output)
    _require_apart(
        source, target
    )  # asks the storage, within seconds: before the model and the listing, which take some
    target.require_unlinked(LEDGER)
    if writes:
        target.check_writable()
    model = find_model(job.model)
    require_settings(model, job.settings.colorizer)
    upstream = upstream_of(job.settings.output.processing, model.architecture)
    ahead = Ahead.start(target, wanted=not job.resume.fresh)
    found = open_source(job.input, job.settings.source, job.input_list, job.settings.limits)
    hints = _hints(job.hints, model, found) if job.hints else NO_HINTS
    fitted = replace(job, settings=sized(job.settings, upstream))
    return Prepared(fitted, found, target, model, ahead, hints, upstream)


def _hints(uri: str, model: ModelFile, source: Source) -> Hints:
    from colorize.models import require_takes_hints  # torch takes seconds

    require_takes_hints(model.architecture)
    if source.parts is not None:
        raise UsageError(f"--hints {uri} names files, but the input is Parquet: color these images from a folder")
    hints = read_hints(uri)
    hints.require_known(source.names())
    return hints


def _require_apart(source: Storage, target: Storage) -> None:
    """A run must never write where it reads: outputs would become inputs, or replace them."""
    folder = source.parent() if source.is_file() else source
    beside = folder is not source and target.real_root != folder.real_root  # a file may have its copy below its folder
    if not beside and overlap(folder, target):
        raise UsageError(f"--output {target.url()} and --input {source.url()} overlap: choose an output folder outside")


def _run(prepared: Prepared, report: RunReport, work: Work, stop: threading.Event) -> None:
    assembly = prepared.assembly(work)
    try:
        if prepared.job.resume.fresh:  # not before the cluster is known to do
            forget(prepared.target)
        prepared.target.delete_all(work.leftovers)
        _save(prepared.target, report)
        _announce(prepared, report)
        _consume(prepared, report, work, assembly, stop)
        _finish(prepared, report, work, assembly.lost)
    except (Exception, KeyboardInterrupt) as error:
        report.end("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        with suppress(Exception):  # what stopped the run may stop this, too; each storage library has its own classes
            _save(prepared.target, report)  # the parts that exist are the manifest; the next run compacts them
        if isinstance(error, KeyboardInterrupt):
            done = f"at least {report.totals.done} of {report.totals.inputs} inputs are done and in the manifest"
            raise StoppedError(f"stopped; {done}; run the same command again to go on", EXIT_STOPPED) from None
        if reason := storage_exhausted(error):
            raise StoppedError(f"{reason}; what was finished is kept: run the same command again to go on") from error
        raise


def _finish(prepared: Prepared, report: RunReport, work: Work, lost: dict[str, Lost]) -> None:
    """Compacts the manifest and saves the report; the manifest has the last word on how inputs ended."""
    rows = prepared.job.settings.output.manifest_rows
    found = compact(prepared.target, work.run, rows, lost, work.stale)
    _settle(report, found)
    archives = prepared.source.versions
    for name in (*found.orphans, *replaced(prepared.target)):  # color copies of inputs that fail, or are renamed, now
        if name not in archives and name.rpartition("#")[0] not in archives:
            prepared.target.delete(name)
    settle(prepared.target)
    if report.totals.degraded:
        log.warning("%d images were colored with less than asked for: see `degraded`", report.totals.degraded)
    prepared.target.sweep()
    complete = report.totals.done == report.totals.inputs
    report.end("finished" if complete else "failed")
    _save(prepared.target, report)
    if not complete:
        raise RuntimeError(f"the manifest holds {report.totals.done} rows for {report.totals.inputs} inputs")


def _settle(report: RunReport, found: Compacted) -> None:
    totals = report.totals
    totals.ok, totals.skipped, totals.failed = (found.states[status] for status in ("ok", "skipped", "failed"))
    totals.errors = found.errors
    totals.before -= found.lost_before
    totals.before["failed", ARCHIVE_UNREADABLE] += found.lost_before.total()


def _consume(prepared: Prepared, report: RunReport, work: Work, assembly: Assembly, stop: threading.Event) -> None:
    from colorize.bulk.pipeline import MODEL_FILE, stream  # Ray Data takes a second, and many a run has nothing to do

    merging = Merging(prepared.target, work.run)
    prepared.target.write(MODEL_FILE, prepared.model.data)
    plan, settings = report.plan, prepared.settings
    assert plan is not None
    loader, writer = prepared.loader(work.run), prepared.writer(prepared.sink())
    checkpoint = partial(prepared.target.read, MODEL_FILE)
    windows = (stream(part, loader, writer, plan, settings, checkpoint) for part in work.left.windows())
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
    if report.totals.before_total:
        log.info("%d of them were settled by earlier runs", report.totals.before_total)
    if report.totals.later:
        log.info("%d of them are left for later: --limit %s", report.totals.later, prepared.job.limit)
    log.info("model %s (%s), %s", prepared.model.name, prepared.model.sha256[:12], pool)


def _save(target: Storage, report: RunReport) -> None:
    target.write(RUN_FILE, json.dumps(report.as_dict(), indent=1).encode())


@contextmanager
def _terminable() -> Iterator[threading.Event]:
    """Within the block SIGTERM (`ray job stop`, a spot machine's notice) is what Ctrl-C is: an interrupt.

    The event that it yields is set as well, since an interrupt that strikes within a library's callback is lost there.
    """
    asked = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        asked.set()
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
