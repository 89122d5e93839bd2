"""`colorize bulk` and `colorize report`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from colorize.bulk.settings import BulkJob, BulkSettings, Resume
from colorize.cli.options import (
    AsJson,
    Config,
    HintsFile,
    Model,
    Overrides,
    Quiet,
    RayAddress,
    Verbose,
    Verify,
)
from colorize.cli.terminal import Terminal, verbosity
from colorize.errors import EXIT_FAILURES, UsageError, one_line, say
from colorize.predict.settings import LimitedSettings
from colorize.settings import load_settings

if TYPE_CHECKING:
    from colorize.bulk.run_report import RunReport


def bulk(
    input_: Annotated[str, typer.Option("--input", metavar="URI", help="folder, image or Parquet; local or s3://")],
    output: Annotated[str, typer.Option("--output", metavar="URI", help="folder to write to; local or s3://")],
    model: Model = "default",
    config: Config = None,
    overrides: Overrides = None,
    input_list: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="paths to color (text; CSV / Parquet with a column `path` or `key`; .gz)"),
    ] = None,
    hints: HintsFile = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=1, help="process at most N missing inputs, sampled at random"),
    ] = None,
    tolerate_failures: Annotated[
        float | None,
        typer.Option(metavar="FRACTION", help="fraction of inputs that may fail with exit status 0"),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="retry what failed in earlier runs")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="redo everything, even completed inputs")] = False,
    verify: Annotated[Verify, typer.Option(help="detect changed inputs by time and size, or by content")] = Verify.stat,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="write nothing: count what is left, measure a sample, estimate time and cost"),
    ] = False,
    price_per_hour: Annotated[
        float | None,
        typer.Option(metavar="PRICE", min=0, help="price of the whole cluster per hour, for --dry-run's estimate"),
    ] = None,
    ray_address: RayAddress = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Colors a folder tree or Parquet archives, local or S3, and records every input in a manifest.

    A second run does what is missing: inputs that are new or changed, or whose output is gone.
    """
    tolerance = [] if tolerate_failures is None else [f"run.tolerate_failures={tolerate_failures}"]
    settings = load_settings(BulkSettings, config, [*(overrides or ()), *tolerance])
    if price_per_hour is not None and not dry_run:
        raise UsageError("--price-per-hour is for an estimate: add --dry-run")
    level, terminal = verbosity(quiet, verbose), Terminal(quiet, as_json)
    _require_there(input_)
    resume, command = Resume(fresh, retry_failed, verify.value), tuple(sys.argv)
    job = BulkJob(input_, output, model, input_list, ray_address, settings, command, resume, hints, limit, level)
    if dry_run:
        _estimate(job, price_per_hour, terminal)
        return
    from colorize.bulk.job import run_bulk

    report = run_bulk(job)
    page = _write_page(job)
    terminal.summary(report.summary() | {"report": page}, _lines(report, page))
    if verbose:
        _name_failures(output)
    if report.failed_fraction > settings.run.tolerate_failures:
        raise typer.Exit(EXIT_FAILURES)


def report(
    uri: Annotated[str, typer.Argument(metavar="URI", help="output of a bulk run; local or s3://")],
    input_: Annotated[
        str | None,
        typer.Option("--input", metavar="URI", help="the run's input, to show the images before coloring"),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Regenerates the report of a bulk run from its manifest."""
    from colorize.bulk.page import write_report

    say(write_report(uri, input_, load_settings(LimitedSettings, overrides=overrides or ()).limits))


def _require_there(uri: str) -> None:
    """Raises UsageError for a missing local path, before the slow imports."""
    from colorize.storage.root import Storage

    storage = Storage(uri)
    if storage.is_local:
        storage.is_file()


def _estimate(job: BulkJob, price_per_hour: float | None, terminal: Terminal) -> None:
    from colorize.bulk.dry_run import dry_run
    from colorize.bulk.job import prepare

    forecast = dry_run(prepare(job, writes=False), price_per_hour)
    terminal.summary(forecast.as_dict(), forecast.lines())


def _write_page(job: BulkJob) -> str:
    """Writes the report and returns its path. A fault is a warning: it does not change the exit status."""
    from colorize.bulk.page import write_report
    from colorize.storage.root import LEDGER

    try:
        return write_report(job.output, job.input, job.settings.limits)
    except Exception as error:  # the run itself is complete
        say(f"warning: no report.html ({one_line(error)}): make it with `colorize report {job.output}`", sys.stderr)
        return f"{job.output}/{LEDGER}"


def _lines(report: RunReport, page: str) -> Iterator[str]:
    t = report.totals
    ok, skipped, failed = (t.all(status) for status in ("ok", "skipped", "failed"))
    earlier = f" ({t.earlier_total} of them by earlier runs)" if t.earlier_total else ""
    yield f"{t.done} inputs: {ok} colored, {skipped} skipped, {failed} failed{earlier}; see {page}"
    for code, count in t.all_errors().most_common():
        yield f"  {count} {code}{way_out(code)}"
    if t.deferred:
        yield f"{t.deferred} more inputs remain: the same command without --limit does them all"


def way_out(code: str) -> str:
    """How to color images that were skipped on purpose."""
    kind = "color" if code == "already_color" else code.removeprefix("triage_")
    return f" (to color them, too: --set triage.{kind}=color)" if kind != code else ""


def _name_failures(output: str) -> None:
    from colorize.bulk.manifest_stats import failures
    from colorize.storage.root import Storage

    for line in failures(Storage(output)):
        say(line, sys.stderr)
