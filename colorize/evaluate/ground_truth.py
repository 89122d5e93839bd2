"""The load stage: from color images of a split to center crops and small grey copies. No torch."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
from PIL import Image

from colorize.cluster.attempts import task_attempt
from colorize.datasets.readers import Raw, Reader
from colorize.datasets.splits import SplitSettings, split_of, split_row
from colorize.imaging.formats import ImageDecodeError, decode_small, whole
from colorize.imaging.formats.upright import RGB, center_crop, upright_rgb
from colorize.imaging.sandbox import Fault, Guarded, decoding_may_exceed
from colorize.imaging.settings import LimitSettings

ALL = "all"

TRUTH_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("title", pa.string()),  # an archive's column `path`, else the path
        ("source", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("error", pa.string()),
        ("message", pa.string()),
        ("crop", pa.binary()),  # uint8 (size, size, 3)
        ("data", pa.large_binary()),  # the encoded image, if whole images are measured
        ("grey", pa.binary()),  # uint8 (grey_height, grey_width) of the whole image, for the network
        ("grey_height", pa.int64()),
        ("grey_width", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class GroundTruthLoader:
    """Picklable parameters of the load stage."""

    reader: Reader
    split: str  # or ALL
    of_several: bool  # several archives, whose names may say the split
    size: int  # side of the crop
    area: int  # pixels of the network's input
    limits: LimitSettings
    whole: bool  # measure whole images, too
    only: frozenset[str] | None = None  # paths; None: all of the split
    cut: SplitSettings | None = None  # None: splits as the data says


def load_truth(units: pa.Table, loader: GroundTruthLoader, *, isolated: bool | None = None) -> Iterator[pa.Table]:
    """Turns a table of `UNIT_SCHEMA` into tables of `TRUTH_SCHEMA`. Broken images have an `error`.

    With `isolated` every image is decoded in a child process; by default from a task's second attempt on.
    """
    if isolated is None:
        isolated = task_attempt() > 0
    function, is_heavy = partial(truth_row, loader=loader), partial(_is_heavy, limits=loader.limits)
    with Guarded(function, loader.limits, isolated=isolated, is_heavy=is_heavy) as row_of:
        for raws in loader.reader.fetch(units):
            made = [(raw, row_of(raw)) for raw in raws if _belongs(raw, loader)]
            rows = [_failed_row(raw, row) if isinstance(row, Fault) else row for raw, row in made]
            yield pa.Table.from_pylist(rows, schema=TRUTH_SCHEMA)


def truth_row(raw: Raw, loader: GroundTruthLoader) -> dict[str, Any]:
    """One row of `TRUTH_SCHEMA`."""
    row = _empty_row(raw)
    if raw.error:
        return row
    try:
        return row | _pixels(whole(raw.data), loader)
    except ImageDecodeError as error:
        return row | {"error": error.code, "message": str(error)}


def _is_heavy(raw: Raw, limits: LimitSettings) -> bool:
    return decoding_may_exceed(raw.data, limits)


def _failed_row(raw: Raw, fault: Fault) -> dict[str, Any]:
    return _empty_row(raw) | {"error": fault.code, "message": fault.message}


def _empty_row(raw: Raw) -> dict[str, Any]:
    return {
        "path": raw.path,
        "title": str(raw.columns.get("path") or raw.path),
        "source": str(raw.columns.get("source") or ""),
        "error": raw.error,
        "message": raw.message,
        **dict.fromkeys(("crop", "data", "grey"), b""),
        **dict.fromkeys(("width", "height", "grey_height", "grey_width"), 0),
    }


def grey_png(rgb: RGB) -> bytes:
    """The luma of an image as PNG: the models' input."""
    out = io.BytesIO()
    Image.fromarray(rgb).convert("L").save(out, "PNG", compress_level=1)
    return out.getvalue()


def _belongs(raw: Raw, loader: GroundTruthLoader) -> bool:
    if raw.skipped or (loader.only is not None and raw.path not in loader.only):
        return False
    return loader.split == ALL or split_of(split_row(raw, loader.of_several), loader.cut) == loader.split


def _pixels(data: bytes, loader: GroundTruthLoader) -> dict[str, Any]:
    limits = loader.limits
    small = decode_small(data, loader.area, max_pixels=limits.max_pixels)
    if min(small.info.width, small.info.height) < limits.min_side:
        reason = f"{small.info.width} x {small.info.height} pixels; limits.min_side is {limits.min_side}"
        raise ImageDecodeError("too_small", reason)
    image = upright_rgb(data, limits.max_pixels, 2 * loader.size)
    crop = center_crop(image, loader.size)
    sides = {"width": small.info.width, "height": small.info.height}
    if not loader.whole:
        return {"crop": crop.tobytes(), **sides}
    grey = {"grey": small.luma.tobytes(), "grey_height": small.luma.shape[0], "grey_width": small.luma.shape[1]}
    return {"crop": crop.tobytes(), "data": data, **sides, **grey}
