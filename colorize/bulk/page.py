"""`report.html` of a bulk run, rendered from its manifest and `run.json` only, so it can be rendered at any time."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np
import yaml
from markupsafe import Markup

from colorize.bulk.manifest_stats import LONGEST, ManifestStats, Reason, clipped, collect_stats
from colorize.bulk.recorded_run import RecordedRun, read_run
from colorize.bulk.samples import Sample, SampleReader
from colorize.errors import UsageError
from colorize.imaging.sandbox import Sandbox
from colorize.imaging.settings import LimitSettings
from colorize.report.charts import NARROW, WIDE, time_chart
from colorize.report.page import render_page
from colorize.storage.root import LEDGER, Storage, escapes

PAGE = f"{LEDGER}/report.html"
CONFIDENCE_NOTE = (
    "The images with the lowest confidence: check these first. They are worse than others only on average; an image "
    "with high confidence may be wrong, too."
)


@dataclass(frozen=True, slots=True)
class Link:
    """A path as text, and its URL if a browser can open it."""

    text: str
    href: str = ""
    note: str = ""


def write_report(output: str, source: str | None = None, limits: LimitSettings | None = None) -> str:
    """Writes the page of a run and returns its URL.

    Args:
        output: output of the run; not trusted.
        source: input of the run, to show the source images. The input recorded in `run.json` is not used, because an
            untrusted run could name any of the user's folders.
        limits: for decoding the images that are shown; images that exceed them are skipped.

    Raises:
        UsageError: there is no bulk run, or its files are links.
    """
    target = Storage(output)
    target.require_no_links(LEDGER)
    target.write(PAGE, bulk_page(target, read_run(target), source, limits))
    return target.url(PAGE)


def bulk_page(
    target: Storage, run: RecordedRun, source: str | None = None, limits: LimitSettings | None = None
) -> bytes:
    """The HTML of a run's page. `run` is the content of its `run.json`; for the others see `write_report`."""
    started = run.started_at.timestamp()
    stats = collect_stats(target, started, started + run.seconds)
    scans = _root(run.input)
    with Sandbox(limits or LimitSettings()) as sandbox:
        reader = SampleReader(_source_root(source), target, run.image_column, limits or LimitSettings(), sandbox)
        galleries = _galleries(stats, reader)
    return render_page(
        "bulk.html",
        title=f"Colored: {posixpath.basename(run.input.rstrip('/')) or run.input}",
        run=run,
        stats=stats,
        total=stats.states.total(),
        charts=_throughput(stats, run.seconds),
        galleries=galleries,
        failures=_listed(stats.failures, scans, None),
        skipped=_listed(stats.skipped, scans, None),
        to_check=_listed(stats.to_check, scans, target),
        settings=yaml.safe_dump(run.settings, sort_keys=False),
        command=" ".join(run.command),
    )


def _source_root(uri: str | None) -> Storage | None:
    """The folder that the manifest's paths are relative to: the input, or the parent of a single file."""
    if uri is None:
        return None
    storage = Storage(uri)
    try:
        return storage.parent() if storage.is_file() else storage
    except UsageError:  # it may no longer exist
        return storage


def _root(uri: str) -> Storage | None:
    """The base of links to scans, or None if they are not local files. Does not access the files."""
    try:
        storage = Storage(uri)
    except UsageError:
        return None
    if not storage.is_local:
        return None
    is_file = os.path.isfile(storage.root)  # noqa: PTH113 (`Path` raises for invalid names)
    return storage.parent() if is_file else storage


def _throughput(stats: ManifestStats, seconds: float) -> list[tuple[str, Markup]]:
    """Charts of images per second over time, for wide and narrow screens; none if no times are known."""
    if not stats.done_by_time.any():
        return []
    bins = _merged(stats.done_by_time, stats.states.total())
    edges = np.linspace(0, seconds, len(bins) + 1)
    rates = bins / max(seconds / len(bins), 1e-9)
    label = "Throughput over time, images per second"
    widths = {"wide": WIDE, "narrow": NARROW}
    return [(name, time_chart(edges.tolist(), rates.tolist(), label, width)) for name, width in widths.items()]


def _merged(counts: np.ndarray[Any, np.dtype[np.int64]], total: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Merges bins of short runs, in which single batches would dominate narrow bins."""
    step = next(step for step in (1, 2, 3, 4, 6, 8) if total >= 40 * len(counts) / step or step == 8)
    merged: np.ndarray[Any, np.dtype[np.int64]] = counts.reshape(-1, step).sum(axis=1)
    return merged


def _galleries(stats: ManifestStats, reader: SampleReader) -> list[tuple[str, str, list[Sample]]]:
    uncertain, extreme, random = stats.shown()
    kinds = (
        ("Lowest confidence", CONFIDENCE_NOTE, uncertain),
        ("Extreme aspect ratios", "The longest images, which the network sees in least detail.", extreme),
        ("Random", "A sample of all other colored images.", random),
    )
    galleries = [(title, text, reader.samples(rows)) for title, text, rows in kinds]
    return [(title, text, samples) for title, text, samples in galleries if samples]


def _listed(reasons: Mapping[str, Reason], source: Storage | None, target: Storage | None) -> list[dict[str, Any]]:
    """Reasons by frequency, each with links to its first images."""
    ordered = sorted(reasons.items(), key=lambda item: -item[1].count)
    return [
        {
            "reason": reason,
            "count": item.count,
            "links": [_link(row, source, target) for row in item.rows],
            "more": item.count - len(item.rows),
        }
        for reason, item in ordered
    ]


def _link(row: Mapping[str, Any], source: Storage | None, target: Storage | None) -> Link:
    """A relative link to the colored copy if there is a target, else a link to the source; never out of these."""
    name = row["output" if target else "path"]
    file = name.rpartition("#")[0] if _in_archive(row["path"]) else name
    text, note = clipped(row["path"]), clipped(row["message"])
    if escapes(file) or len(file) > LONGEST:
        return Link(text, note=note)
    if target is not None:
        return Link(text, f"../{quote(file)}", note)
    return Link(text, PurePosixPath(posixpath.join(source.root, file)).as_uri() if source else "", note)


def _in_archive(path: str) -> bool:
    archive, _, row = path.rpartition("#")
    return archive.lower().endswith(".parquet") and row.isdigit()
