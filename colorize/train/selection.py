"""Which images a training uses, how often each is drawn, and how many broken ones it puts up with."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from colorize.train.settings import DataSettings

FEW_PICTURES = 300  # of which a fraction says nothing yet: as many broken ones are tolerated as of this number


def is_wanted(row: Mapping[str, Any], settings: DataSettings) -> bool:
    """Whether a row passes the filters `labels`, `sources` and `include`."""
    path = str(row["path"])
    return (
        (settings.labels is None or label_of(row) in settings.labels)
        and (settings.sources is None or str(row.get("source")) in settings.sources)
        and (settings.include is None or any(fnmatchcase(path, pattern) for pattern in settings.include))
    )


def label_of(row: Mapping[str, Any]) -> str:
    """The label of an image; of one that has none it is the name of its folder."""
    label = row.get("label")
    return PurePosixPath(str(row["path"])).parent.name if label is None else str(label)  # 0 is a label, too


def draw_rates(counts: Mapping[str, int], balance: float) -> dict[str, float]:
    """How often an image of each source is drawn in an epoch, so that n images weigh n**balance; 1 on average.

    >>> {name: round(rate, 2) for name, rate in draw_rates({"many": 1600, "few": 100}, 0.5).items()}
    {'many': 0.85, 'few': 3.4}
    """
    weights = {source: count ** (balance - 1) for source, count in counts.items() if count}
    mean = sum(weight * counts[source] for source, weight in weights.items()) / max(sum(counts.values()), 1)
    return {source: weight / mean for source, weight in weights.items()}


def too_many_broken(broken: int, seen: int, settings: DataSettings) -> str:
    """Why a training cannot go on if so many of the images seen were broken; "" where that is tolerated."""
    if broken <= settings.tolerate_broken * max(seen, FEW_PICTURES):
        return ""
    allowed = f"more than data.tolerate_broken allows ({settings.tolerate_broken})"
    return f"{broken} of {seen} images are broken: {allowed}"
