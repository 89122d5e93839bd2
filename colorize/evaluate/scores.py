"""Metrics per image as columns, and their means, intervals and comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from colorize.evaluate.metrics import PER_IMAGE, Metric
from colorize.evaluate.settings import MeasureSettings
from colorize.metrics import Interval, bootstrap, frechet_distance, rarity_weights
from colorize.metrics.resampling import K, Statistic

Floats = npt.NDArray[np.float64]

MEASURED = ("psnr", "psnr_full", "psnr_ab", "ssim", "ciede2000", "auc", "perceptual_lite0", "lpips", "top1_lite0",
             "colorfulness", "colorfulness_absolute", "confidence")  # fmt: skip


@dataclass(frozen=True)
class Broken:
    """An image that could not be measured."""

    path: str
    error: str
    message: str


@dataclass(frozen=True)
class ModelScores:
    """One model's metrics: `columns` by name `(N,)`, AuC scores by true color `(N, Q)`, and features `(N, D)`."""

    columns: dict[str, Floats]
    color_scores: npt.NDArray[np.float32] = field(repr=False)
    features: npt.NDArray[np.float32] = field(repr=False)
    fid_features: npt.NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True)
class Scores:
    """The metrics of N images for all models, in the order given."""

    labels: tuple[str, ...]
    images: list[dict[str, Any]]  # path, title, source, width, height
    true_columns: dict[str, Floats]
    true_pixels: npt.NDArray[np.float32] = field(repr=False)
    true_features: npt.NDArray[np.float32] = field(repr=False)
    true_fid_features: npt.NDArray[np.float32] = field(repr=False)
    models: dict[str, ModelScores]
    broken: list[Broken]

    @property
    def count(self) -> int:
        """Number of images measured."""
        return len(self.images)

    def errors(self) -> Counter[str]:
        """Number of broken images by error code."""
        return Counter(item.error for item in self.broken)

    def table(self) -> pa.Table:
        """One row per image and model."""
        rows = []
        for label, model in self.models.items():
            for index, image in enumerate(self.images):
                metrics = {name: float(values[index]) for name, values in model.columns.items()}
                rows.append({**image, "model": label, **metrics})
        return pa.Table.from_pylist(rows)


def collect(rows: Iterable[Mapping[str, Any]], labels: Sequence[str]) -> Scores:
    """Collects finished rows, sorted by path."""
    good, broken = [], []
    for row in rows:
        if row["error"]:
            broken.append(Broken(row["path"], row["error"], row["message"]))
        else:
            good.append(row)
    good.sort(key=lambda row: str(row["path"]))
    truths = {name: _column(good, f"true_{name}") for name in ("colorfulness", "colorfulness_absolute")}
    return Scores(
        labels=tuple(labels),
        images=[{name: row[name] for name in ("path", "title", "source", "width", "height")} for row in good],
        true_columns=truths,
        true_pixels=_vectors([row["true_pixels"] for row in good]),
        true_features=_vectors([row["true_features"] for row in good]),
        true_fid_features=_vectors([row["true_fid_features"] for row in good]),
        models={label: _model_scores([row["models"][i] for row in good], truths) for i, label in enumerate(labels)},
        broken=broken,
    )


def summarize(scores: Scores, settings: MeasureSettings) -> dict[str, dict[str, Interval]]:
    """Each model's metrics with intervals: `{label: {metric: interval}}`."""
    weights = rarity_weights(scores.true_pixels.sum(axis=0))
    statistics = {
        (label, name): statistic
        for label, model in scores.models.items()
        for name, statistic in _statistics(scores, model, weights).items()
    }
    found: dict[str, dict[str, Interval]] = {label: {} for label in scores.models}
    for (label, name), interval in _intervals(statistics, scores.count, settings).items():
        found[label][name] = interval
    return {label: metrics | _distances(scores, scores.models[label]) for label, metrics in found.items()}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same images, by one metric."""

    figure: str
    first: str
    second: str
    difference: Interval  # first minus second
    first_better: float  # fraction of the images
    ties: float


def compare(scores: Scores, settings: MeasureSettings) -> list[Comparison]:
    """Compares every pair of models by every per-image metric."""
    differences = {
        (metric, first, second): scores.models[first].columns[metric.name] - scores.models[second].columns[metric.name]
        for first, second in combinations(scores.models, 2)
        for metric in PER_IMAGE
        if metric.name in scores.models[first].columns
    }
    intervals = _intervals({key: _mean(values) for key, values in differences.items()}, scores.count, settings)
    return [_comparison(*key, values, intervals[key]) for key, values in differences.items()]


@dataclass(frozen=True, slots=True)
class ConfidenceQuality:
    """How well confidence predicts error: mean CIEDE2000 of the least and most confident tenths, and of the rest.

    `rank` is Spearman's correlation of confidence and CIEDE2000: -1 is best; 0 if all values are equal.
    """

    least: Interval
    rest: Interval
    most: Interval
    rank: float


def confidence_quality(scores: Scores, settings: MeasureSettings) -> dict[str, ConfidenceQuality]:
    """By label, for models with confidence, given at least 20 images."""
    found = {}
    for label, model in scores.models.items():
        sure, error = model.columns["confidence"], model.columns["ciede2000"]
        tenth = scores.count // 10
        if tenth < 2 or not sure.any():
            continue
        order = np.argsort(sure, kind="stable")
        ends = {"least": _mean(error[order[:tenth]]), "most": _mean(error[order[-tenth:]])}
        tenths = _intervals(ends, tenth, settings)
        rest = _intervals({"rest": _mean(error[order[tenth:]])}, scores.count - tenth, settings)["rest"]
        found[label] = ConfidenceQuality(tenths["least"], rest, tenths["most"], _rank_correlation(sure, error))
    return found


def _rank_correlation(x: Floats, y: Floats) -> float:
    ranks = _ranks(x), _ranks(y)
    return float(np.corrcoef(*ranks)[0, 1]) if all(r.std() > 0 for r in ranks) else 0.0


def _ranks(values: Floats) -> Floats:
    """Ranks from 0; ties share their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Floats = (ends - (counts + 1) / 2)[place]
    return ranks


def _comparison(metric: Metric, first: str, second: str, difference: Floats, interval: Interval) -> Comparison:
    ahead = difference > 0 if metric.better == "higher" else difference < 0
    return Comparison(metric.name, first, second, interval, float(ahead.mean()), float((difference == 0).mean()))


def _statistics(scores: Scores, model: ModelScores, weights: Floats) -> dict[str, Statistic]:
    """Each metric of a model as a function of resample counts."""
    found = {name: _mean(values) for name, values in model.columns.items()}
    for name, true in scores.true_columns.items():
        found[f"{name}_gap"] = _gap(model.columns[name], true)
    found["auc_rebalanced"] = _rebalanced(scores.true_pixels @ weights, model.color_scores @ weights)
    return found


def _distances(scores: Scores, model: ModelScores) -> dict[str, Interval]:
    """Frechet distances, without intervals: resampling would bias them."""
    pairs = {
        "frechet_lite0": (model.features, scores.true_features),
        "fid": (model.fid_features, scores.true_fid_features),
    }
    measured = {name: pair for name, pair in pairs.items() if pair[0].size and scores.count >= 2}
    distances = {name: frechet_distance(predicted, true) for name, (predicted, true) in measured.items()}
    return {name: Interval(distance, distance, distance) for name, distance in distances.items()}


def _mean(values: Floats) -> Statistic:
    return lambda counts: counts @ values / len(values)


def _gap(predicted: Floats, true: Floats) -> Statistic:
    difference = predicted - true
    return lambda counts: np.abs(counts @ difference) / len(difference)


def _rebalanced(pixels: Floats, color_scores: Floats) -> Statistic:
    return lambda counts: 100 * (counts @ color_scores) / (counts @ pixels)


def _intervals(statistics: Mapping[K, Statistic], images: int, settings: MeasureSettings) -> dict[K, Interval]:
    return bootstrap(
        statistics, images, resamples=settings.resamples, confidence=settings.confidence, seed=settings.seed
    )


def _model_scores(rows: Sequence[Mapping[str, Any]], truths: Mapping[str, Floats]) -> ModelScores:
    columns = {name: _column(rows, name) for name in MEASURED}
    columns = {name: values for name, values in columns.items() if not (rows and np.isnan(values).all())}
    for name, true in truths.items():
        columns[f"{name}_error"] = np.abs(columns[name] - true)
    scores, features, fid = (_vectors([row[name] for row in rows]) for name in ("scores", "features", "fid_features"))
    return ModelScores(columns, scores, features, fid)


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> Floats:
    return np.array([row[name] for row in rows], np.float64)


def _vectors(rows: Sequence[bytes]) -> npt.NDArray[np.float32]:
    return np.frombuffer(b"".join(rows), np.float32).reshape(len(rows), -1) if rows else np.empty((0, 0), np.float32)
