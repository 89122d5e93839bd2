"""Held-out color images by kind: the kinds that the default model is for, each evaluated separately.

Historical images are in a folder with a `provenance.csv` that has the columns `file` and `collection`; modern ones in
Parquet files with the columns `image`, `path`, `source` and `split`, of which the split `val` is used.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from colorize.imaging.color import rgb_to_lab
from colorize.imaging.formats.upright import RGB, center_crop, upright_rgb

SIDE = 256  # side in pixels of the center crop that is evaluated
_LIMIT = 1 << 28
COLLECTIONS = {"fsa-owi-color": "Kodachromes", "documerica": "Documerica", "prokudin-gorskii": "Prokudin-Gorskii"}
# The maximum number of images per source, so that none dominates its kind.
SOURCES: Mapping[str, Mapping[str, int]] = {
    "like BSDS": {"voc": 50, "flickr8k": 50, "coco": 50, "osie": 10, "voc2007": 20, "vocanimals": 5, "landscape": 5},
    "like ImageNet": {"imagen": 50, "nips17": 50, "duts": 70},
    "people, scenes": {
        "idenprof": 25, "ccp": 20, "lspet": 20, "shanghaitech": 15, "faces": 10, "sports100": 10,
        "sun": 30, "miniplaces": 30,
    },
}  # fmt: skip
# For each kind, the fractions of ground truth colorfulness at which colors are compared.
LEVELS: Mapping[str, tuple[float, ...]] = {
    "Kodachromes": (0.70, 0.75), "like BSDS": (0.65, 0.75), "like ImageNet": (0.50, 0.65), "people, scenes": (0.60,),
    "Prokudin-Gorskii": (0.60,), "Documerica": (0.60,),
}  # fmt: skip


@dataclass(frozen=True)
class DecodedImage:
    """An original: its kind, its identifier, and its center crop."""

    kind: str
    path: str
    rgb: RGB  # (SIDE, SIDE, 3)


def historical(folder: Path) -> list[DecodedImage]:
    """The images listed in the folder's `provenance.csv`, in order."""
    with (folder / "provenance.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    return [
        DecodedImage(COLLECTIONS.get(row["collection"], row["collection"]), row["file"], _center(folder / row["file"]))
        for row in rows
    ]


def modern(folder: Path, sources: Mapping[str, Mapping[str, int]] = SOURCES) -> list[DecodedImage]:
    """Images of the split `val` in a folder's Parquet files, sampled deterministically for each source."""
    found = _by_source(folder)
    return [
        DecodedImage(kind, path, center_crop(upright_rgb(data, _LIMIT), SIDE))
        for kind, wanted in sources.items()
        for source, count in wanted.items()
        for path, data in found.get(source, [])[:count]
    ]


def greys(images: Sequence[DecodedImage]) -> list[npt.NDArray[np.uint8]]:
    """The simulated scan of each: its luma as Pillow's mode "L"."""
    return [np.asarray(Image.fromarray(image.rgb).convert("L")) for image in images]


def _center(file: Path) -> RGB:
    return center_crop(upright_rgb(file.read_bytes(), _LIMIT), SIDE)


def _by_source(folder: Path) -> dict[str, list[tuple[str, bytes]]]:
    found: dict[str, list[tuple[str, bytes]]] = {}
    for path, source, data in _held_out(folder):
        found.setdefault(source, []).append((path, data))
    return {
        source: sorted(rows, key=lambda row: hashlib.sha256(row[0].encode()).digest()) for source, rows in found.items()
    }


def _held_out(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    for file in sorted(folder.glob("*.parquet")):
        table = pq.read_table(file, columns=["path", "source", "image"], filters=[("split", "==", "val")])
        for row in table.to_pylist():
            yield row["path"], row["source"], row["image"]


def train_colors(folder: Path, count: int) -> Iterator[Tensor]:
    """The ab `(1, 2, 36, 36)` of about so many images of the split `train`, evenly sampled from all files."""
    files = sorted(folder.glob("*.parquet"))
    for file in files:
        table = pq.read_table(file, columns=["image"], filters=[("split", "==", "train")])
        step = max(1, len(table) * len(files) // count)
        for data in table.column("image")[::step].to_pylist():
            small = upright_rgb(data, _LIMIT).resize((36, 36), Image.Resampling.BOX)
            rgb = torch.from_numpy(np.array(small, np.float32)).permute(2, 0, 1)[None] / 255
            yield rgb_to_lab(rgb)[:, 1:]
