"""Prometheus metrics, exported as `ray_colorize_...` by Ray's agent on every node.

`ray_colorize_pictures_total{status, error}` counts completed inputs. `ray_colorize_work_seconds_total{stage}` is the
time that processes spent on them, so its rate is the number of busy processes per stage. Ray adds node and job labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from ray.util import metrics

from colorize.bulk.ledger.manifest import Record


def count_completed(records: Iterable[Record]) -> None:
    """Counts inputs whose manifest rows are stored."""
    for (status, error), count in Counter((record.status, record.error) for record in records).items():
        _images().inc(count, {"status": status, "error": error})


def add_work_seconds(stage: str, seconds: float) -> None:
    """Adds time that this process spent on a stage."""
    if seconds > 0:
        _seconds().inc(seconds, {"stage": stage})


@lru_cache(maxsize=1)
def _images() -> metrics.Counter:
    return metrics.Counter("colorize_pictures_total", "Completed inputs of bulk runs.", ("status", "error"))


@lru_cache(maxsize=1)
def _seconds() -> metrics.Counter:
    return metrics.Counter("colorize_work_seconds_total", "Seconds of work of bulk runs.", ("stage",))
