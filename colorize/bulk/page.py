"""`report.html` of a bulk run: made of its manifest and `run.json` alone, so that it can be made again at any time."""

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

from colorize.bulk.recorded_run import RecordedRun, read_run
from colorize.bulk.samples import Places, Sample
from colorize.bulk.survey import LONGEST, Reason, Survey, clipped, survey
from colorize.errors import UsageError
from colorize.imaging.sandbox import Sandbox
from colorize.imaging.settings import LimitSettings
from colorize.report.charts import NARROW, WIDE, time_chart
from colorize.report.page import render_page
from colorize.storage.root import LEDGER, Storage, escapes

PAGE = f"{LEDGER}/report.html"
UNSURE_NOTE = (
    "The network was least sure of these: look here first. They are worse than the others on average only: an image "
    "that it was sure of may be wrong, too."
)


@dataclass(frozen=True, slots=True)
class Link:
    """A path as text, and where it leads if a browser can follow it."""

    text: str
    href: str = ""
    note: str = ""


def write_report(output: str, source: str | None = None, limits: LimitSettings | None = None) -> str:
    """Writes the page of the run below `output` and returns where it is.

    Args:
        output: of a run; it is not trusted.
        source: the run's input, where images shall be shown as they were before. What the run itself says of that is
            not followed: it may name a folder of whoever asks for the page.
        limits: for decoding an image that is shown; one that exceeds them is left out.

    Raises:
        UsageError: there is no bulk run, or links stand where it has left files.
    """
    target = Storage(output)
    target.require_unlinked(LEDGER)
    target.write(PAGE, bulk_page(target, read_run(target), source, limits))
    return target.url(PAGE)


def bulk_page(
    target: Storage, run: RecordedRun, source: str | None = None, limits: LimitSettings | None = None
) -> bytes:
    """The page of a run, `run` being the content of its `run.json`; else as `write_report`."""
    started = run.started_at.timestamp()
    found = survey(target, started, started + run.seconds)
    scans = _root(run.input)
    with Sandbox(limits or LimitSettings()) as sandbox:
        places = Places(_source_root(source), target, run.image_column, limits or LimitSettings(), sandbox)
        galleries = _galleries(found, places)
    return render_page(
        "bulk.html",
        title=f"Colored: {posixpath.basename(run.input.rstrip('/')) or run.input}",
        run=run,
        found=found,
        total=found.states.total(),
        charts=_throughput(found, run.seconds),
        galleries=galleries,
        failures=_listed(found.failures, scans, None),
        skipped=_listed(found.skipped, scans, None),
        look=_listed(found.look, scans, target),
        settings=yaml.safe_dump(run.settings, sort_keys=False),
        command=" ".join(run.command),
    )


def _source_root(uri: str | None) -> Storage | None:
    """What the manifest's paths are relative to: the input's folder, also where the input is one file."""
    if uri is None:
        return None
    storage = Storage(uri)
    try:
        return storage.parent() if storage.is_file() else storage
    except UsageError:  # gone by now: the page can do without
        return storage


def _root(uri: str) -> Storage | None:
    """Where links to scans lead, without asking: only a browser may follow them. None where it cannot."""
    try:
        storage = Storage(uri)
    except UsageError:
        return None
    if not storage.is_local:
        return None
    is_file = os.path.isfile(storage.root)  # noqa: PTH113 (of a name that no system takes `Path` raises)
    return storage.parent() if is_file else storage


def _throughput(found: Survey, seconds: float) -> list[tuple[str, Markup]]:
    """Images a second over the run's time, for wide screens and for narrow ones; none where no times are known."""
    if not found.done_by_time.any():
        return []
    bins = _merged(found.done_by_time, found.states.total())
    edges = np.linspace(0, seconds, len(bins) + 1)
    rates = bins / max(seconds / len(bins), 1e-9)
    label = "Throughput over time, images a second"
    widths = {"wide": WIDE, "narrow": NARROW}
    return [(name, time_chart(edges.tolist(), rates.tolist(), label, width)) for name, width in widths.items()]


def _merged(counts: np.ndarray[Any, np.dtype[np.int64]], total: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Wider bins for short runs: batches finish at once, and a bin each would show teeth instead of speed."""
    step = next(step for step in (1, 2, 3, 4, 6, 8) if total >= 40 * len(counts) / step or step == 8)
    merged: np.ndarray[Any, np.dtype[np.int64]] = counts.reshape(-1, step).sum(axis=1)
    return merged


def _galleries(found: Survey, places: Places) -> list[tuple[str, str, list[Sample]]]:
    unsure, extreme, random = found.shown()
    kinds = (
        ("Least confident", UNSURE_NOTE, unsure),
        ("Extreme shapes", "The longest images, of which the network sees least.", extreme),
        ("Random", "A sample of everything else that was colored.", random),
    )
    galleries = [(title, text, places.samples(rows)) for title, text, rows in kinds]
    return [(title, text, samples) for title, text, samples in galleries if samples]


def _listed(reasons: Mapping[str, Reason], source: Storage | None, target: Storage | None) -> list[dict[str, Any]]:
    """Reasons by how frequent they are, each with links to its first few images."""
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
    """To the colored copy if there is a target, by a relative path; else to the source. None leads out of these."""
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
