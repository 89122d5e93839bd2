"""Numbers for Prometheus, through Ray's own metrics: every node's agent exports them as `ray_colorize_...`.

`ray_colorize_pictures_total{status, error}` counts settled inputs, `ray_colorize_work_seconds_total{stage}` the time
that processes spent on them: its rate is how many processes a stage keeps busy. Ray adds the node and the job.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from ray.util import metrics

from colorize.bulk.ledger.manifest import Record


def settled(records: Iterable[Record]) -> None:
    """Counts inputs whose rows are stored."""
    for (status, error), count in Counter((record.status, record.error) for record in records).items():
        _images().inc(count, {"status": status, "error": error})


def worked(stage: str, seconds: float) -> None:
    """Adds time that this process spent in a stage."""
    if seconds > 0:
        _seconds().inc(seconds, {"stage": stage})


@lru_cache(maxsize=1)
def _images() -> metrics.Counter:
    return metrics.Counter("colorize_pictures_total", "Settled inputs of bulk runs.", ("status", "error"))


@lru_cache(maxsize=1)
def _seconds() -> metrics.Counter:
    return metrics.Counter("colorize_work_seconds_total", "Seconds of work of bulk runs.", ("stage",))
