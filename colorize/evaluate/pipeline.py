"""The evaluation pipeline: units -> load -> score (actors) -> whole images -> one row per image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from ray.data import ActorPoolStrategy

from colorize.cluster.attempts import task_attempt, task_retries
from colorize.cluster.data_context import configure
from colorize.cluster.plan import StagePlan
from colorize.datasets.sources import Source
from colorize.evaluate.candidates import FinitePainter, Paint, painter
from colorize.evaluate.evaluator import Evaluator
from colorize.evaluate.features import Lite0
from colorize.evaluate.full_size import whole_psnr
from colorize.evaluate.ground_truth import GroundTruthLoader, load_truth
from colorize.evaluate.scores import MEASURED
from colorize.evaluate.settings import EvaluateSettings
from colorize.evaluate.supplied import Supplied
from colorize.imaging.sandbox import Fault, Guarded, may_exceed
from colorize.imaging.settings import LimitSettings
from colorize.predict.columns import GREY_COLUMNS, ab_from, grey_from
from colorize.predict.model_files import ModelFile

CPU_BATCH, GPU_BATCH = 8, 64  # about 100 MB per image of 256 x 256
DROPPED = ("crop", "data", *GREY_COLUMNS)


@dataclass(frozen=True, slots=True)
class Scoring:
    """Picklable parameters of the score stage."""

    models: Any  # object reference to a list of `ModelFile`
    settings: EvaluateSettings
    device: str
    threads: int
    batch_size: int
    lite0: bool
    supplied: Any  # object reference to `Supplied`


def score(
    source: Source, loader: GroundTruthLoader, files: Sequence[ModelFile], plan: StagePlan, settings: EvaluateSettings,
    *, limit: int | None, lite0: bool, supplied: Supplied,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Yields a row per image: its `truth_row`, and `models`, a list of metrics in the order of `files`."""
    # With a limit, order makes the choice of images reproducible.
    configure(settings.run.stall_seconds).execution_options.preserve_order = limit is not None
    blocks = source.blocks()
    np.random.default_rng(settings.measure.seed).shuffle(blocks)
    batch_size = settings.pool.batch_size or (GPU_BATCH if plan.device == "cuda" else CPU_BATCH)
    threads = max(1, int(plan.cpus_per_actor))
    models, weights = ray.put(list(files)), ray.put(supplied)
    scoring = Scoring(models, settings, plan.device, threads, batch_size, lite0, weights)
    loaded = ray.data.from_arrow(blocks).map_batches(
        partial(load_truth, loader=loader),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=plan.task_cpus,
        ray_remote_args_fn=task_retries,
    )
    dataset = (
        (loaded if limit is None else loaded.limit(limit))
        .map_batches(
            Scorer,
            fn_constructor_args=(scoring,),
            batch_size=batch_size,
            batch_format="pyarrow",
            num_cpus=plan.cpus_per_actor,
            num_gpus=plan.gpus_per_actor,
            compute=ActorPoolStrategy(
                min_size=plan.min_actors, max_size=plan.limit_for(math.ceil(source.total / batch_size))
            ),
        )
        .map_batches(
            partial(measure_whole, limits=settings.limits),
            batch_size=16,
            batch_format="pyarrow",
            num_cpus=plan.task_cpus,
            ray_remote_args_fn=task_retries,
        )
    )
    dataset.set_name("colorize-evaluate")  # in Ray's dashboard
    batches: Iterable[Any] = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    for batch in batches:
        yield from batch.to_pylist()


class Scorer:
    """Holds every model and the evaluator on one device."""

    def __init__(self, scoring: Scoring) -> None:
        torch.set_num_threads(scoring.threads)
        settings, device = scoring.settings, scoring.device
        batch_size = scoring.batch_size
        files: list[ModelFile] = ray.get(scoring.models)
        self.painters = {file.name: painter(file, settings.colorizer, device, batch_size) for file in files}
        lite0 = Lite0() if scoring.lite0 else None
        self.evaluator = Evaluator(device, settings.colorizer.size**2, lite0, ray.get(scoring.supplied))
        self.size = settings.measure.size

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Adds the columns of `scored_schema` to a batch of `TRUTH_SCHEMA`. Broken rows pass through."""
        rows: list[dict[str, Any]] = batch.to_pylist()
        good = [row for row in rows if not row["error"]]
        for row in rows:
            row |= {"true_colorfulness": 0.0, "true_colorfulness_absolute": 0.0, "true_pixels": b"",
                    "true_features": b"", "true_fid_features": b"", "models": []}  # fmt: skip
        if good:
            self._score(good)
        return pa.Table.from_pylist(rows, schema=scored_schema(batch.schema))

    def _score(self, rows: list[dict[str, Any]]) -> None:
        shape = (self.size, self.size, 3)
        truth = self.evaluator.truth([np.frombuffer(row["crop"], np.uint8).reshape(shape) for row in rows])
        _spread(rows, truth.described())
        for name, model in self.painters.items():
            paint = FinitePainter(model)
            metrics: list[dict[str, Any]] = [{"psnr_full": float("nan")} for _ in rows]
            _spread(metrics, self.evaluator.compare(truth, partial(paint, confidence=True)))
            _spread(metrics, _whole_ab(rows, paint))
            for row, metric in zip(rows, metrics, strict=True):
                row["models"].append(metric)
            for index in paint.not_finite:
                rows[index] |= {"error": "not_finite", "message": f"the color that {name} gives it is not finite"}
        for row in rows:
            row["crop"] = b""
            if row["error"]:
                row["models"] = []  # either all models have metrics or none


def measure_whole(batch: pa.Table, *, limits: LimitSettings) -> pa.Table:
    """Computes `psnr_full` if whole images are there, and drops the pixels."""
    rows: list[dict[str, Any]] = batch.to_pylist()
    function, is_heavy = partial(_whole_metrics, max_pixels=limits.max_pixels), partial(_is_heavy, limits=limits)
    with Guarded(function, limits, isolated=task_attempt() > 0, is_heavy=is_heavy) as metrics_of:
        for row in rows:
            measured = metrics_of(row) if row["data"] else row["models"]
            if isinstance(measured, Fault):
                row |= {"error": measured.code, "message": measured.message}
            row["models"] = [] if isinstance(measured, Fault) else [metrics | {"ab": b""} for metrics in measured]
    return pa.Table.from_pylist(rows, schema=batch.schema).drop_columns(list(DROPPED))


def _whole_metrics(row: dict[str, Any], max_pixels: int) -> list[dict[str, Any]]:
    return [metrics | {"psnr_full": whole_psnr(row["data"], ab_from(metrics), max_pixels)} for metrics in row["models"]]


def _is_heavy(row: dict[str, Any], limits: LimitSettings) -> bool:
    return may_exceed(row["width"] * row["height"], limits)


def scored_schema(truth: pa.Schema) -> pa.Schema:
    """The schema after the score stage."""
    fields = [*((name, pa.float64()) for name in MEASURED), ("scores", pa.binary()), ("features", pa.binary()),
              ("fid_features", pa.binary()), ("ab", pa.binary()),
              ("ab_height", pa.int64()), ("ab_width", pa.int64())]  # fmt: skip
    described = [("true_colorfulness", pa.float64()), ("true_colorfulness_absolute", pa.float64()),
                 ("true_pixels", pa.binary()), ("true_features", pa.binary()),
                 ("true_fid_features", pa.binary())]  # fmt: skip
    return pa.schema([*truth, *described, ("models", pa.list_(pa.struct(fields)))])


def _whole_ab(rows: Sequence[dict[str, Any]], paint: Paint) -> dict[str, list[Any]]:
    if not rows[0]["data"]:
        return {}
    colors = [colored.ab for colored in paint([grey_from(row) for row in rows])]
    return {
        "ab": [ab.tobytes() for ab in colors],
        "ab_height": [ab.shape[1] for ab in colors],
        "ab_width": [ab.shape[2] for ab in colors],
    }


def _spread(rows: Sequence[dict[str, Any]], columns: dict[str, list[Any]]) -> None:
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
