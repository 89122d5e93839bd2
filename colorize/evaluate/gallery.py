"""The images on the page: best, median and worst by a metric, colored again on the driver."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from colorize.datasets.sources import Source
from colorize.evaluate.candidates import Candidate, color_scans, painter
from colorize.evaluate.ground_truth import GroundTruthLoader, grey_png, load_truth
from colorize.evaluate.metrics import Metric
from colorize.evaluate.scores import Scores
from colorize.evaluate.settings import EvaluateSettings
from colorize.imaging.formats.upright import RGB

KINDS = ("best", "median", "worst")


@dataclass(frozen=True)
class Shown:
    """One image: the ground truth and each model's result."""

    truth: RGB
    colored: dict[str, RGB]  # by label


def ranked(scores: Scores, label: str, metric: Metric, count: int) -> dict[str, list[int]]:
    """Indices of the images to show, by a metric of one model: up to `count` of each kind, none twice."""
    values = scores.models[label].columns[metric.name]
    order = [int(i) for i in np.argsort(-values if metric.better == "higher" else values, kind="stable")]
    count = min(count, -(-len(order) // len(KINDS)))
    best, rest = order[:count], order[count:]
    cut = max(0, len(rest) - count)
    worst, middle = rest[cut:], rest[:cut]
    start = max(0, (len(middle) - count) // 2)
    return {"best": best, "median": middle[start : start + count], "worst": worst[::-1]}


def recolor(
    paths: Iterable[str],
    source: Source,
    loader: GroundTruthLoader,
    candidates: Sequence[Candidate],
    settings: EvaluateSettings,
) -> dict[str, Shown]:
    """Crops of these images, colored by every model, by path. Images that can no longer be read are left out."""
    loader = replace(loader, only=frozenset(paths))
    tables = load_truth(covering(source.units, loader.only or ()), loader, isolated=True)
    rows = [row for table in tables for row in table.to_pylist()]
    rows = [row for row in rows if not row["error"]]
    shape = (loader.size, loader.size, 3)
    crops = [np.frombuffer(row["crop"], np.uint8).reshape(shape) for row in rows]
    scans = [grey_png(crop) for crop in crops]
    colored: dict[str, list[RGB]] = {}
    for candidate in candidates:
        paint = painter(candidate.file, settings.colorizer, "cpu", 8)
        colored[candidate.label] = [image for image, _ in color_scans(scans, paint, loader.area)]
    return {
        row["path"]: Shown(crop, {label: images[i] for label, images in colored.items()})
        for i, (row, crop) in enumerate(zip(rows, crops, strict=True))
    }


def covering(units: pa.Table, paths: Iterable[str]) -> pa.Table:
    """The units that contain these paths: files by name, archive rows as `name#row`."""
    names = set(paths)
    rows: dict[str, list[int]] = {}
    for path in names:
        name, _, row = path.rpartition("#")
        if name and row.isdigit():
            rows.setdefault(name, []).append(int(row))
    keep = [
        name in names or any(first <= row < first + count for row in rows.get(name, ()))
        for name, first, count in zip(*(units[c].to_pylist() for c in ("name", "first", "count")), strict=True)
    ]
    return units.filter(pa.array(keep, pa.bool_()))
