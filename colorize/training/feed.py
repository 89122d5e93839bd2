"""From encoded photographs to training rows: square crops, filters, and what to do with a broken picture. No Ray."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from colorize.imaging.formats import ImageDecodeError
from colorize.imaging.formats.upright import RGB, upright_rgb
from colorize.imaging.sandbox import Careful, Fault, decoding_may_exceed
from colorize.imaging.settings import LimitSettings, SizeLimits
from colorize.training.settings import DataSettings

FEW_PICTURES = 300  # of which a fraction says nothing yet: as many broken ones are tolerated as of this number


def is_wanted(row: Mapping[str, Any], settings: DataSettings) -> bool:
    """Whether a row passes the filters `labels`, `sources` and `include`.

    The label of a picture that has none is the name of its folder.
    """
    path, label = str(row["path"]), row.get("label")
    if label is None:  # and not 0, which is a label
        label = PurePosixPath(path).parent.name
    return (
        (settings.labels is None or str(label) in settings.labels)
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


def training_picture(data: bytes, short_side: int) -> Image.Image | None:
    """A picture upright, of any size from which `short_side` can be scaled down; None for what is no picture."""
    try:
        return upright_rgb(data, SizeLimits().max_pixels, 2 * short_side)
    except ImageDecodeError:
        return None


def too_many_broken(broken: int, seen: int, settings: DataSettings) -> str:
    """Why a training cannot go on if so many of the pictures seen were broken; "" where that is tolerated."""
    if broken <= settings.tolerate_broken * max(seen, FEW_PICTURES):
        return ""
    allowed = f"more than data.tolerate_broken allows ({settings.tolerate_broken})"
    return f"{broken} of {seen} pictures are broken: {allowed}"


def square(data: bytes, side: int, position: float) -> RGB | None:
    """A square of the picture, as large as fits, scaled to `side`; None for what is no picture.

    Args:
        data: the encoded picture.
        side: in pixels.
        position: where along the longer side the square lies, in [0, 1].
    """
    picture = training_picture(data, side)
    if picture is None:
        return None
    edge = min(picture.size)
    left, top = position * (picture.width - edge), position * (picture.height - edge)
    box = (left, top, left + edge, top + edge)
    return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC, box=box))


def training_rows(
    pictures: Iterable[bytes], side: int, positions: Iterable[float], *, isolated: bool
) -> list[dict[str, Any]]:
    """`training_row` of each picture; one that takes too long or too much memory, or crashes a decoder, is broken.

    Unless they are `isolated` from it, in a child process, such a one ends this process, which is then to be repeated.
    """
    limits = LimitSettings()
    row, is_heavy = partial(_row_at, side=side), partial(_is_heavy, limits=limits)
    with Careful(row, limits, isolated=isolated, is_heavy=is_heavy) as row_of:
        rows = [row_of(item) for item in zip(pictures, positions, strict=True)]
    return [_broken_row(side) if isinstance(row, Fault) else row for row in rows]


def training_row(data: bytes, side: int, position: float) -> dict[str, Any]:
    """`rgb` and whether the picture is `broken` (then it is black, so that every batch has one shape)."""
    rgb = square(data, side, position)
    return _broken_row(side) if rgb is None else {"rgb": rgb, "broken": False}


def _row_at(item: tuple[bytes, float], side: int) -> dict[str, Any]:
    return training_row(item[0], side, item[1])


def _is_heavy(item: tuple[bytes, float], limits: LimitSettings) -> bool:
    return decoding_may_exceed(item[0], limits)


def _broken_row(side: int) -> dict[str, Any]:
    return {"rgb": np.zeros((side, side, 3), np.uint8), "broken": True}
