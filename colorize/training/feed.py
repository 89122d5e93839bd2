"""From encoded photographs to training rows: square crops, filters, and what to do with a broken picture. No Ray."""

from __future__ import annotations

import io
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from colorize.training.settings import DataSettings

Square = npt.NDArray[np.uint8]  # (side, side, 3), sRGB


def is_wanted(row: Mapping[str, Any], settings: DataSettings) -> bool:
    """Whether a row passes the filters `labels`, `sources` and `include`.

    The label of a picture that has none is the name of its folder.
    """
    path = str(row["path"])
    label = str(row.get("label") or PurePosixPath(path).parent.name)
    return (
        (settings.labels is None or label in settings.labels)
        and (settings.sources is None or str(row.get("source")) in settings.sources)
        and (settings.include is None or any(fnmatchcase(path, pattern) for pattern in settings.include))
    )


def keep_shares(counts: Mapping[str, int], balance: float) -> dict[str, float]:
    """With which probability a picture of each source is used in an epoch, so that n pictures weigh n**balance.

    >>> {name: round(share, 2) for name, share in keep_shares({"many": 1600, "few": 100}, 0.5).items()}
    {'many': 0.25, 'few': 1.0}
    """
    weights = {source: count ** (balance - 1) for source, count in counts.items() if count}
    return {source: weight / max(weights.values()) for source, weight in weights.items()}


def square(data: bytes, side: int, position: float) -> Square | None:
    """A square of the picture, as large as fits, scaled to `side`; None for what is no picture.

    Args:
        data: the encoded picture.
        side: in pixels.
        position: where along the longer side the square lies, in [0, 1].
    """
    try:
        with Image.open(io.BytesIO(data)) as opened:
            opened.draft("RGB", (2 * side, 2 * side))
            picture = opened.convert("RGB")
    except Exception:  # one row's decode: Pillow raises many classes for damaged files
        return None
    edge = min(picture.size)
    left, top = position * (picture.width - edge), position * (picture.height - edge)
    box = (left, top, left + edge, top + edge)
    return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC, box=box))


def training_row(data: bytes, side: int, position: float) -> dict[str, Any]:
    """`rgb` and whether the picture is `broken` (then it is black, so that every batch has one shape)."""
    rgb = square(data, side, position)
    return {"rgb": np.zeros((side, side, 3), np.uint8) if rgb is None else rgb, "broken": rgb is None}
