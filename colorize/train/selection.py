"""Selects the training images, their sampling rates, and the tolerated number of broken ones."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from colorize.train.settings import DataSettings

FEW_IMAGES = 300  # of fewer images, as many may be broken as of this number


def is_wanted(row: Mapping[str, Any], settings: DataSettings) -> bool:
    """Whether a row passes the filters `labels`, `sources` and `include`."""
    path = str(row["path"])
    return (
        (settings.labels is None or label_of(row) in settings.labels)
        and (settings.sources is None or str(row.get("source")) in settings.sources)
        and (settings.include is None or any(fnmatchcase(path, pattern) for pattern in settings.include))
    )


def label_of(row: Mapping[str, Any]) -> str:
    """The label of an image, by default the name of its folder."""
    label = row.get("label")
    return PurePosixPath(str(row["path"])).parent.name if label is None else str(label)  # 0 is a label


def draw_rates(counts: Mapping[str, int], balance: float) -> dict[str, float]:
    """Draws per image and epoch by source, so that n images count as n**balance; 1 on average.

    >>> {name: round(rate, 2) for name, rate in draw_rates({"many": 1600, "few": 100}, 0.5).items()}
    {'many': 0.85, 'few': 3.4}
    """
    weights = {source: count ** (balance - 1) for source, count in counts.items() if count}
    mean = sum(weight * counts[source] for source, weight in weights.items()) / max(sum(counts.values()), 1)
    return {source: weight / mean for source, weight in weights.items()}


def too_many_broken(broken: int, seen: int, settings: DataSettings) -> str:
    """Why training cannot continue with so many broken images, or ""."""
    if broken <= settings.tolerate_broken * max(seen, FEW_IMAGES):
        return ""
    allowed = f"more than data.tolerate_broken allows ({settings.tolerate_broken})"
    return f"{broken} of {seen} images are broken: {allowed}"
