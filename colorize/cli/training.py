"""`colorize train`, `colorize evaluate` and `colorize export`."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from colorize.cli.options import AsJson, Config, Overrides, Quiet, RayAddress
from colorize.cli.terminal import Terminal
from colorize.errors import EXIT_FAILURES, UsageError, say
from colorize.report.durations import duration
from colorize.settings import load_settings

if TYPE_CHECKING:
    from colorize.evaluate.outcome import Evaluation


def train(
    data: Annotated[str, typer.Option("--data", metavar="URI", help="color images: folder or Parquet; local or s3://")],
    output: Annotated[str, typer.Option("--output", metavar="URI", help="run folder to create; local or s3://")],
    config: Config = None,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="resume the run in --output")] = False,
    no_ray: Annotated[bool, typer.Option("--no-ray", help="train in this process, on its GPU or CPUs")] = False,
    ray_address: RayAddress = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Trains a network, data-parallel on Ray Train, on a folder or Parquet archives of color images."""
    from colorize.storage.root import Storage
    from colorize.train.run_folder import BEST
    from colorize.train.settings import TrainSettings

    if config is None:
        raise UsageError("no recipe: name one, for example --config configs/train/unet.yaml")
    settings = load_settings(TrainSettings, config, overrides or ())
    if no_ray:
        from colorize.train.single import train_alone

        figures = train_alone(settings, data, output, resume, quiet)
    else:
        from colorize.train.job import TrainJob, run_training

        figures = run_training(TrainJob(settings, data, output, resume, ray_address, quiet))
    folder, numbers = Storage(output), {name: value for name, value in figures.items() if math.isfinite(value)}
    facts = {"run": folder.url(), "best": folder.url(BEST), "epochs": int(figures["epoch"]), "figures": numbers}
    Terminal(quiet, as_json).summary(facts, _result(figures, output))


def evaluate(
    models: Annotated[
        list[str], typer.Option("--model", help="as in `colorize bulk`, or `grey`; repeat it to compare several")
    ],
    data: Annotated[str, typer.Option("--data", metavar="URI", help="color images: folder or Parquet; local or s3://")],
    output: Annotated[str, typer.Option("--output", metavar="URI", help="folder to write to; local or s3://")],
    split: Annotated[str, typer.Option("--split", help="train, val, test, or all")] = "val",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="measure at most N images")] = None,
    config: Config = None,
    overrides: Overrides = None,
    ray_address: RayAddress = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measures models on color images: made grey, colored, compared with the original."""
    from colorize.evaluate.job import run_evaluation
    from colorize.evaluate.outcome import EvaluateJob
    from colorize.evaluate.settings import EvaluateSettings
    from colorize.evaluate.terminal import metrics_table

    settings = load_settings(EvaluateSettings, config, overrides or ())
    job = EvaluateJob(tuple(models), data, output, split, limit, ray_address, settings, tuple(sys.argv), quiet)
    done = run_evaluation(job)
    if not (quiet or as_json):
        Console().print(metrics_table(done))
    Terminal(quiet, as_json).summary(done.as_dict(), _lines(done))
    if done.broken_fraction > settings.run.tolerate_failures:
        raise typer.Exit(EXIT_FAILURES)


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="as in `colorize bulk`")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="file to write: .onnx or .safetensors")],
) -> None:
    """Exports a model to ONNX, verified with ONNX Runtime, or to a checkpoint."""
    from colorize.predict import export

    say(f"{model} -> {output} ({export.export(model, output)})")


def _result(figures: Mapping[str, float], output: str) -> Iterator[str]:
    yield f"trained {figures['epoch']:.0f} epochs; weights, figures and samples are in {output}"
    yield ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if name.startswith(("loss", "val_")))


def _lines(done: Evaluation) -> Iterator[str]:
    yield f"{done.scores.count} images in {duration(done.seconds)}; see {done.job.output}/evaluation.html"
    for code, count in done.scores.errors().most_common():
        yield f"  {count} {code}"
