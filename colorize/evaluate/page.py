"""`evaluation.html`: the models side by side, with metrics, distributions and images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup
from PIL import Image

from colorize.evaluate.candidates import GREY
from colorize.evaluate.gallery import Shown, ranked
from colorize.evaluate.metrics import METRICS, Metric
from colorize.evaluate.outcome import Evaluation
from colorize.metrics import Interval
from colorize.report.charts import Series, distribution_chart
from colorize.report.page import render_page, thumbnail
from colorize.storage.root import Storage

THUMBNAIL = 192  # pixels
STYLES = 6  # line styles of the page
RANKED_BY = ("psnr", "ciede2000", "perceptual_lite0")
SPREAD = ("psnr", "psnr_ab", "ssim", "ciede2000", "auc", "perceptual_lite0", "colorfulness")


@dataclass(frozen=True)
class Cell:
    """A metric of one model, as text."""

    value: str
    interval: str
    best: bool


def chosen_images(done: Evaluation) -> dict[str, dict[str, list[int]]]:
    """Indices of the images to show: `{metric: {kind: [...]}}`."""
    columns = done.scores.models[leader(done)].columns
    count = done.job.settings.measure.gallery
    return {name: ranked(done.scores, leader(done), METRICS[name], count) for name in RANKED_BY if name in columns}


def leader(done: Evaluation) -> str:
    """The label of the model that ranks the images: the first one but `grey`."""
    coloring = [c.label for c in done.candidates if c.file.name != GREY]
    return (coloring or list(done.scores.labels))[0]


def evaluation_page(done: Evaluation, shown: Mapping[str, Shown]) -> bytes:
    """Renders the page; `shown` holds the chosen images by path."""
    return render_page(
        "evaluation.html",
        title=f"Evaluation: {', '.join(done.scores.labels)}",
        done=done,
        data=Storage(done.job.data).url(),
        finished=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        rows=[(metric, cells(metric, done.summary)) for metric in METRICS.values() if _measured(metric, done)],
        comparisons=_comparisons(done),
        charts=_charts(done),
        gallery=_gallery(done, shown),
        leader=leader(done),
    )


def cells(metric: Metric, summary: Mapping[str, Mapping[str, Interval]]) -> list[Cell]:
    """One metric of every model, in order, with the best one marked."""
    found = [metrics.get(metric.name) for metrics in summary.values()]
    values = [interval.value for interval in found if interval is not None]
    best = (max if metric.better == "higher" else min)(values) if values else None
    marked = len(set(values)) > 1 and metric.name not in ("colorfulness", "colorfulness_absolute")
    return [
        _cell(interval, metric.digits, marked and interval is not None and interval.value == best) for interval in found
    ]


def _cell(interval: Interval | None, digits: int, best: bool) -> Cell:
    if interval is None:
        return Cell("", "", False)
    span = f"{interval.low:.{digits}f} to {interval.high:.{digits}f}" if interval.low < interval.high else ""
    return Cell(f"{interval.value:.{digits}f}", span, best)


def _measured(metric: Metric, done: Evaluation) -> bool:
    return any(metric.name in metrics for metrics in done.summary.values())


def _comparisons(done: Evaluation) -> list[dict[str, Any]]:
    """Comparisons as text."""
    rows = []
    for comparison in done.comparisons:
        metric, difference = METRICS[comparison.figure], comparison.difference
        ahead = (difference.value > 0) == (metric.better == "higher")
        verdict = (comparison.first if ahead else comparison.second) if difference.excludes_zero else "no difference"
        text = f"{difference.value:+.{metric.digits}f} {metric.unit}".strip()
        span = f"{difference.low:+.{metric.digits}f} to {difference.high:+.{metric.digits}f}"
        rows.append({"metric": metric, "item": comparison, "text": text, "span": span, "verdict": verdict})
    return rows


def _charts(done: Evaluation) -> list[tuple[Metric, Markup]]:
    charts = []
    for name in SPREAD:
        series = [
            Series(label, f"series-{number % STYLES}", model.columns[name])
            for number, (label, model) in enumerate(done.scores.models.items())
            if name in model.columns and model.columns[name].any()  # grey has no colorfulness to plot
        ]
        if name == "colorfulness":
            series.append(Series("ground truth", "series-truth", done.scores.true_columns[name]))
        if series:
            label = f"Distribution of {METRICS[name].title} over the images"
            charts.append((METRICS[name], distribution_chart(series, label)))
    return charts


def _gallery(done: Evaluation, shown: Mapping[str, Shown]) -> list[dict[str, Any]]:
    memo: dict[str, list[tuple[str, str]]] = {}
    sections = []
    for name, kinds in chosen_images(done).items():
        groups = [
            (kind, [_entry(done, i, METRICS[name], shown, memo) for i in numbers]) for kind, numbers in kinds.items()
        ]
        sections.append({"metric": METRICS[name], "groups": [(k, [e for e in entries if e]) for k, entries in groups]})
    return sections


def _entry(
    done: Evaluation, number: int, metric: Metric, shown: Mapping[str, Shown], memo: dict[str, list[tuple[str, str]]]
) -> dict[str, Any] | None:
    """One image of the gallery: its name, and a panel for grey, each model and the ground truth."""
    row = done.scores.images[number]
    path = row["path"]
    if path not in shown:
        return None
    if path not in memo:
        memo[path] = _panels(shown[path])
    values = {
        label: f"{model.columns[metric.name][number]:.{metric.digits}f} {metric.unit}".strip()
        for label, model in done.scores.models.items()
        if metric.name in model.columns
    }
    panels = [{"label": label, "image": image, "value": values.get(label, "")} for label, image in memo[path]]
    return {"title": row["title"], "path": path, "panels": panels}


def _panels(shown: Shown) -> list[tuple[str, str]]:
    grey = Image.fromarray(shown.truth).convert("L")
    colored = [(label, thumbnail(image, THUMBNAIL)) for label, image in shown.colored.items() if label != GREY]
    return [(GREY, thumbnail(grey, THUMBNAIL)), *colored, ("ground truth", thumbnail(shown.truth, THUMBNAIL))]
