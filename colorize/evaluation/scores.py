"""Every picture's figures as columns, and what follows from them: means, intervals, comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from colorize.evaluation.figures import PER_PICTURE
from colorize.evaluation.settings import MeasureSettings
from colorize.metrics import Interval, bootstrap, frechet_distance, rarity_weights
from colorize.metrics.resampling import Counts

Floats = npt.NDArray[np.float64]

MEASURED = ("psnr", "psnr_full", "psnr_ab", "ssim", "ciede2000", "auc", "perceptual_lite0", "lpips", "top1_lite0",
             "colorfulness", "colorfulness_absolute", "confidence")  # fmt: skip


@dataclass(frozen=True)
class Broken:
    """A picture that could not be measured."""

    path: str
    error: str
    message: str


@dataclass(frozen=True)
class ModelScores:
    """One model's figures: `columns` by name `(N,)`, sums of scores by true color `(N, Q)`, features `(N, D)`.

    `fid_features` are Inception's, where its weights were supplied.
    """

    columns: dict[str, Floats]
    color_scores: npt.NDArray[np.float32] = field(repr=False)
    features: npt.NDArray[np.float32] = field(repr=False)
    fid_features: npt.NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True)
class Scores:
    """An evaluation's figures: N pictures, some models in the order given."""

    labels: tuple[str, ...]
    pictures: list[dict[str, Any]]  # path, title, source, width, height
    true_columns: dict[str, Floats]
    true_pixels: npt.NDArray[np.float32] = field(repr=False)
    true_features: npt.NDArray[np.float32] = field(repr=False)
    true_fid_features: npt.NDArray[np.float32] = field(repr=False)
    models: dict[str, ModelScores]
    broken: list[Broken]

    @property
    def count(self) -> int:
        """Pictures measured."""
        return len(self.pictures)

    def errors(self) -> Counter[str]:
        """Broken pictures by reason."""
        return Counter(item.error for item in self.broken)

    def table(self) -> pa.Table:
        """One row for each picture and model, with every figure of a picture."""
        rows = []
        for label, model in self.models.items():
            for index, picture in enumerate(self.pictures):
                figures = {name: float(values[index]) for name, values in model.columns.items()}
                rows.append({**picture, "model": label, **figures})
        return pa.Table.from_pylist(rows)


def collect(rows: Iterable[Mapping[str, Any]], labels: Sequence[str]) -> Scores:
    """The figures of finished rows, in the order of their paths."""
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
        pictures=[{name: row[name] for name in ("path", "title", "source", "width", "height")} for row in good],
        true_columns=truths,
        true_pixels=_vectors([row["true_pixels"] for row in good]),
        true_features=_vectors([row["true_features"] for row in good]),
        true_fid_features=_vectors([row["true_fid_features"] for row in good]),
        models={label: _model_scores([row["models"][i] for row in good], truths) for i, label in enumerate(labels)},
        broken=broken,
    )


def summarize(scores: Scores, settings: MeasureSettings) -> dict[str, dict[str, Interval]]:
    """Each model's figures with their intervals: `{label: {figure: interval}}`; those that were not measured lack."""
    weights = rarity_weights(scores.true_pixels.sum(axis=0))
    return {label: _summary(scores, model, weights, settings) for label, model in scores.models.items()}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same pictures, by one figure: how far the first is above the second."""

    figure: str
    first: str
    second: str
    difference: Interval  # first minus second
    first_better: float  # fraction of the pictures
    ties: float


def compare(scores: Scores, settings: MeasureSettings) -> list[Comparison]:
    """Every pair of models, by every figure of a picture that both have."""
    labels = list(scores.models)
    pairs = [(a, b) for index, a in enumerate(labels) for b in labels[index + 1 :]]
    return [
        _comparison(figure.name, figure.better == "higher", a, b, scores, settings)
        for a, b in pairs
        for figure in PER_PICTURE
        if figure.name in scores.models[a].columns
    ]


@dataclass(frozen=True, slots=True)
class Sureness:
    """What a model's confidence is worth: the mean CIEDE2000 of its least and most confident tenths, and of the rest.

    `rank` is Spearman's correlation of confidence and CIEDE2000: -1 if one orders the other, 0 if all are equal.
    """

    least: Interval
    rest: Interval
    most: Interval
    rank: float


def sureness(scores: Scores, settings: MeasureSettings) -> dict[str, Sureness]:
    """By label, for the models that say how sure they are, if there are pictures enough for tenths."""
    found = {}
    for label, model in scores.models.items():
        sure, error = model.columns["confidence"], model.columns["ciede2000"]
        tenth = scores.count // 10
        if tenth < 2 or not sure.any():
            continue
        order = np.argsort(sure, kind="stable")
        least, rest, most = (_mean(error[i], settings) for i in (order[:tenth], order[tenth:], order[-tenth:]))
        found[label] = Sureness(least, rest, most, _rank_correlation(sure, error))
    return found


def _rank_correlation(x: Floats, y: Floats) -> float:
    ranks = _ranks(x), _ranks(y)
    return float(np.corrcoef(*ranks)[0, 1]) if all(r.std() > 0 for r in ranks) else 0.0


def _ranks(values: Floats) -> Floats:
    """Ranks from 0; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Floats = (ends - (counts + 1) / 2)[place]
    return ranks


def _comparison(
    name: str, higher: bool, first: str, second: str, scores: Scores, settings: MeasureSettings
) -> Comparison:
    difference = scores.models[first].columns[name] - scores.models[second].columns[name]
    ahead = difference > 0 if higher else difference < 0
    interval = _mean(difference, settings)
    return Comparison(name, first, second, interval, float(ahead.mean()), float((difference == 0).mean()))


def _summary(scores: Scores, model: ModelScores, weights: Floats, settings: MeasureSettings) -> dict[str, Interval]:
    found = {name: _mean(values, settings) for name, values in model.columns.items()}
    for name, true in scores.true_columns.items():
        found[f"{name}_gap"] = _gap(model.columns[name], true, settings)
    found["auc_rebalanced"] = _rebalanced(scores.true_pixels, model.color_scores, weights, settings)
    pairs = {
        "frechet_lite0": (model.features, scores.true_features),
        "fid": (model.fid_features, scores.true_fid_features),
    }
    for name, (ours, truth) in pairs.items():
        if ours.size and scores.count >= 2:
            distance = frechet_distance(ours, truth)
            found[name] = Interval(distance, distance, distance)  # resampling would bias it: no interval
    return found


def _mean(values: Floats, settings: MeasureSettings) -> Interval:
    return _resampled(lambda counts: counts @ values / len(values), len(values), settings)


def _gap(ours: Floats, true: Floats, settings: MeasureSettings) -> Interval:
    difference = ours - true
    return _resampled(lambda counts: np.abs(counts @ difference) / len(difference), len(difference), settings)


def _rebalanced(
    pixels_NQ: npt.NDArray[np.float32], scores_NQ: npt.NDArray[np.float32], weights: Floats, settings: MeasureSettings
) -> Interval:
    pixels, scores = pixels_NQ @ weights, scores_NQ @ weights
    return _resampled(lambda counts: 100 * (counts @ scores) / (counts @ pixels), len(pixels), settings)


def _resampled(statistic: Any, pictures: int, settings: MeasureSettings) -> Interval:
    def exact(counts: Counts) -> Floats:
        result: Floats = statistic(counts)
        return result

    return bootstrap(exact, pictures, resamples=settings.resamples, confidence=settings.confidence, seed=settings.seed)


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
