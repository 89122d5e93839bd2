"""The `colorize` command. Parses, calls one function, turns its outcome into an exit status.

0 done; 1 an unexpected fault; 2 wrong usage or configuration; 3 finished, but more inputs failed than
`--tolerate-failures` allows; 130 stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, NoReturn, Optional

import typer
from rich.console import Console

from colorize import __version__
from colorize.bulk.settings import BulkSettings
from colorize.cli import models
from colorize.cli.options import Config, HintsFile, Model, Overrides, RayAddress, Verify
from colorize.errors import EXIT_STOPPED, StoppedError, UsageError, joined, say
from colorize.predict.outcome import Outcome
from colorize.predict.settings import LimitedSettings, PhotoSettings
from colorize.report.durations import duration
from colorize.settings import load_settings

if TYPE_CHECKING:
    from colorize.bulk.settings import BulkJob

EXIT_FAULT, EXIT_USAGE, EXIT_FAILURES = 1, 2, 3
STOPPED = "stopped"
GOES_ON = "; run the same command again to go on"  # what keeps an account of what is done

app = typer.Typer(
    name="colorize",
    help="Gives old photographs color, one by one or a whole archive at a time.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(models.app, name="models")


def _show_version(asked: bool) -> None:
    if asked:
        say(f"colorize {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="show the version, and exit")
    ] = False,
) -> None:
    """Gives old photographs color, one by one or a whole archive at a time."""


@app.command(epilog="Example: colorize photo grandma.jpg https://example.org/street.png -o colored/ --compare")
def photo(
    sources: Annotated[list[str], typer.Argument(metavar="SRC...", help="picture files or http(s) links")],
    output: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--output", "-o", metavar="DIR_OR_FILE", help="where to; default: here, as NAME.colorized.SUFFIX"),
    ] = None,
    model: Model = "default",
    hints: HintsFile = None,
    compare: Annotated[bool, typer.Option(help="also write grey / colored / original side by side")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace files that are there already")] = False,
    run_folder: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--run", metavar="RUN", help="a training run's folder, as the model"),
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="one sheet with the picture by each epoch of --run, side by side")
    ] = False,
    enlarge: Annotated[
        bool, typer.Option("--enlarge", help="three times the size, painted by a superres_cnn (no luminance is kept)")
    ] = False,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="follow links to private and loopback addresses, too")
    ] = False,
    config: Config = None,
    overrides: Overrides = None,
) -> None:
    """Colors single pictures, without Ray."""
    settings = load_settings(PhotoSettings, config, overrides or ())
    if history and enlarge:
        raise UsageError("--history and --enlarge write different pictures: give one of them")
    if history and run_folder is None:
        raise UsageError("--history shows the epochs of a training run: name its folder with --run")
    if hints and (history or enlarge):
        raise UsageError("--hints is for colored copies: leave out --history and --enlarge")
    _print_outcomes(
        _photo_outcomes(
            sources, output, overwrite, run_folder or model, settings, compare, history, enlarge, allow_private, hints
        )
    )


@app.command("restore-grey", epilog="Example: colorize restore-grey colored/ -o grey/")
def restore_grey_command(
    sources: Annotated[list[str], typer.Argument(metavar="OUT...", help="colored pictures or folders; s3:// too")],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="IN2", help="where the scans go: a folder, or a file for one")
    ],
    force: Annotated[bool, typer.Option(help="take the luminance of pictures that say nothing of it too")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace files that are there already")] = False,
    overrides: Overrides = None,
) -> None:
    """Gives the scans back out of colored pictures: bit for bit, where the manifest says `luma_exact`."""
    from colorize.predict.restore import restore_grey

    limits = load_settings(LimitedSettings, overrides=overrides or ()).limits
    _print_outcomes(restore_grey(sources, output, limits, force=force, overwrite=overwrite))


def _photo_outcomes(
    sources: list[str],
    output: str | None,
    overwrite: bool,
    model: str,
    settings: PhotoSettings,
    compare: bool,
    history: bool,
    enlarge: bool,
    allow_private: bool,
    hints: str | None,
) -> Iterator[Outcome]:
    from colorize.imaging.sandbox import Sandbox
    from colorize.predict.destinations import Destinations
    from colorize.predict.enlarge import write_enlarged
    from colorize.predict.history import write_history
    from colorize.predict.photo import color_photos, outcomes

    if not (history or enlarge):
        yield from color_photos(
            sources,
            output,
            model,
            settings,
            compare=compare,
            allow_private=allow_private,
            hints=hints,
            overwrite=overwrite,
        )
        return
    write, destinations = write_history if history else write_enlarged, Destinations(sources, output, overwrite)
    with Sandbox(settings.limits) as sandbox:
        yield from outcomes(
            (source, partial(write, source, model, destinations, settings, allow_private, sandbox))
            for source in sources
        )


@app.command(epilog="Example: colorize bulk --input s3://archive/scans --output s3://archive/colored --set pool.max=4")
def bulk(
    input_: Annotated[str, typer.Option("--input", metavar="URI", help="folder, picture or Parquet; s3:// too")],
    output: Annotated[str, typer.Option("--output", metavar="URI", help="folder to write to; s3:// too")],
    model: Model = "default",
    config: Config = None,
    overrides: Overrides = None,
    input_list: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="FILE", help="paths to color (text; CSV / Parquet with a column `path` or `key`; .gz)"),
    ] = None,
    hints: HintsFile = None,
    tolerate_failures: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(metavar="FRACTION", help="fraction of inputs that may fail with exit status 0"),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="try again what failed in earlier runs")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="start anew, also what earlier runs have done")] = False,
    verify: Annotated[Verify, typer.Option(help="what tells a changed input: time and size, or content")] = Verify.stat,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="write nothing: count all inputs, measure a sample, estimate time and cost"),
    ] = False,
    price_per_hour: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(metavar="PRICE", min=0, help="of the whole cluster, for --dry-run's estimate"),
    ] = None,
    ray_address: RayAddress = None,
) -> None:
    """Colors a folder tree or Parquet archives, local or S3, and accounts for every input in a manifest.

    Run again, it does what is missing: inputs that are new or changed, or whose output is gone.
    """
    settings = load_settings(BulkSettings, config, [*(overrides or ()), *_tolerance(tolerate_failures)])
    _require_there(input_)
    from colorize.bulk.job import prepare, run_bulk
    from colorize.bulk.settings import BulkJob, Resume

    resume = Resume(fresh, retry_failed, verify.value)
    job = BulkJob(input_, output, model, input_list, ray_address, settings, tuple(sys.argv), resume, hints)
    if dry_run:
        from colorize.bulk.dry_run import dry_run as estimate

        for line in estimate(prepare(job, writes=False), price_per_hour).lines():
            say(line)
        return
    report = run_bulk(job)
    page = _write_page(job)
    t = report.totals
    ok, skipped, failed = (t.all(status) for status in ("ok", "skipped", "failed"))
    earlier = f" ({t.before_total} of them by earlier runs)" if t.before_total else ""
    say(f"{t.done} inputs: {ok} colored, {skipped} skipped, {failed} failed{earlier}; see {page}")
    for code, count in t.all_errors().most_common():
        say(f"  {count} {code}")
    if report.failed_fraction > settings.run.tolerate_failures:
        raise typer.Exit(EXIT_FAILURES)


@app.command(epilog="Example: colorize train --config configs/train/unet.yaml --data photos/ --output runs/unet")
def train(
    data: Annotated[str, typer.Option("--data", metavar="URI", help="color pictures: folder or Parquet; s3:// too")],
    output: Annotated[str, typer.Option("--output", metavar="URI", help="run folder to create; s3:// too")],
    config: Config = None,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in --output")] = False,
    no_ray: Annotated[bool, typer.Option("--no-ray", help="train in this process alone, on its GPU or CPUs")] = False,
    ray_address: RayAddress = None,
) -> None:
    """Trains a network, data-parallel on Ray Train, on a folder or Parquet archives of color pictures."""
    from colorize.train.settings import TrainSettings

    if config is None:
        raise UsageError("which network is to be trained, and how? Name a recipe: --config configs/train/unet.yaml")
    settings = load_settings(TrainSettings, config, overrides or ())
    if no_ray:
        from colorize.train.single import train_alone

        figures = train_alone(settings, data, output, resume)
    else:
        from colorize.train.job import TrainJob, run_training

        figures = run_training(TrainJob(settings, data, output, resume, ray_address))
    say(f"trained {figures['epoch']:.0f} epochs; weights, figures and samples are in {output}")
    say(", ".join(f"{name} {value:.4g}" for name, value in figures.items() if name.startswith(("loss", "val_"))))


@app.command(
    epilog="Example: colorize evaluate --model default --model grey --data photos/ --split val --output evaluation/"
)
def evaluate(
    models: Annotated[
        list[str], typer.Option("--model", help="as in `colorize bulk`, or `grey`; repeat it to compare several")
    ],
    data: Annotated[str, typer.Option("--data", metavar="URI", help="color pictures: folder or Parquet; s3:// too")],
    output: Annotated[str, typer.Option("--output", metavar="URI", help="folder to write to; s3:// too")],
    split: Annotated[str, typer.Option("--split", help="train, val, test, or all")] = "val",
    limit: Annotated[Optional[int], typer.Option("--limit", min=1, help="measure so many pictures at most")] = None,  # noqa: UP045
    config: Config = None,
    overrides: Overrides = None,
    ray_address: RayAddress = None,
) -> None:
    """Measures models on color pictures: made grey, colored, compared with the truth."""
    from colorize.evaluate.job import run_evaluation
    from colorize.evaluate.outcome import EvaluateJob
    from colorize.evaluate.settings import EvaluateSettings
    from colorize.evaluate.terminal import figures_table

    settings = load_settings(EvaluateSettings, config, overrides or ())
    job = EvaluateJob(tuple(models), data, output, split, limit, ray_address, settings, tuple(sys.argv))
    done = run_evaluation(job)
    Console().print(figures_table(done))
    say(f"{done.scores.count} pictures in {duration(done.seconds)}; see {output}/evaluation.html")
    for code, count in done.scores.errors().most_common():
        say(f"  {count} {code}")
    if done.broken_fraction > settings.run.tolerate_failures:
        raise typer.Exit(EXIT_FAILURES)


@app.command(epilog="Example: colorize report s3://archive/colored")
def report(
    uri: Annotated[str, typer.Argument(metavar="URI", help="output of a bulk run; s3:// too")],
    input_: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--input", metavar="URI", help="the run's input, to show pictures as they were before"),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Makes the page of a bulk run again, from its manifest."""
    from colorize.bulk.page import write_report

    say(write_report(uri, input_, load_settings(LimitedSettings, overrides=overrides or ()).limits))


@app.command("export", epilog="Example: colorize export default -o default.onnx")
def export_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="as in `colorize bulk`")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="to write: .onnx or .safetensors")],
) -> None:
    """Writes a model as an ONNX file, compared with ONNX Runtime, or as a checkpoint."""
    from colorize.predict.export import export

    say(f"{model} -> {output} ({export(model, output)})")


def _require_there(uri: str) -> None:
    """Raises UsageError for a local path that does not exist: before the imports that take seconds."""
    from colorize.storage.root import Storage

    storage = Storage(uri)
    if storage.is_local:
        storage.is_file()


def _write_page(job: BulkJob) -> str:
    """Where the page of a run lies that has ended, or else its records.

    Where no page can be made that is said, and the run's exit status stays.
    """
    from colorize.bulk.page import write_report
    from colorize.storage.root import LEDGER

    try:
        return write_report(job.output, job.input, job.settings.limits)
    except Exception as error:  # whatever it was, every input is done and in the manifest
        reason = _first_line(error)
        say(f"warning: no report.html ({reason}): make it with `colorize report {job.output}`", sys.stderr)
        return f"{job.output}/{LEDGER}"


def _print_outcomes(outcomes: Iterable[Outcome]) -> None:
    """A line for each picture, as it is done; raises `typer.Exit` if one was not."""
    failed = 0
    for outcome in outcomes:
        failed += not outcome.ok
        say(outcome.line, sys.stdout if outcome.ok else sys.stderr)
    if failed:
        raise typer.Exit(EXIT_FAILURES)


def _tolerance(fraction: float | None) -> list[str]:
    return [] if fraction is None else [f"run.tolerate_failures={fraction}"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line (`sys.argv` by default) and exits with its status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]  # may stand anywhere
    sys.exit(run(words, debug=debug))


def run(words: Sequence[str], *, debug: bool = False) -> int:
    """Runs one command line and returns its exit status; errors are one line on stderr."""
    stopped = STOPPED + (GOES_ON if words[:1] == ["bulk"] else "")
    if not words:
        run(["--help"])
        return EXIT_USAGE
    try:
        status = app(args=list(words), standalone_mode=False, prog_name="colorize")
    except UsageError as error:
        return _fail(str(error), EXIT_USAGE, debug)
    except StoppedError as error:
        return _fail(str(error), error.status, debug)
    except typer.exceptions.TyperException as error:
        return _fail(error.format_message(), EXIT_USAGE, debug)
    except (KeyboardInterrupt, typer.Abort):
        return _fail(stopped, EXIT_STOPPED, debug)
    except Exception as error:
        hint = "" if debug else " (--debug shows where)"
        return _fail(f"unexpected fault: {type(error).__name__}: {_first_line(error)}{hint}", EXIT_FAULT, debug)
    if status == EXIT_STOPPED:  # typer has caught the interrupt and says nothing
        return _fail(stopped, EXIT_STOPPED, debug)
    return status if isinstance(status, int) else 0


def _fail(message: str, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    say(f"error: {joined(message)}", sys.stderr)
    return status


def _first_line(error: Exception) -> str:
    """The end of an error's text: remote errors put their cause last, under a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no further message"
