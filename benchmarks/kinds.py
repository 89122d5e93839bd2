"""Held-out color images by kind: what the default model is for, each kind measured apart.

Historical images lie in a folder beside a `provenance.csv` with the columns `file` and `collection`; modern ones in
Parquet files with the columns `image`, `path`, `source` and `split`, of which the split `val` is taken.
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

SIDE = 256  # pixels of the centered square that is measured
_LIMIT = 1 << 28
COLLECTIONS = {"fsa-owi-color": "Kodachromes", "documerica": "Documerica", "prokudin-gorskii": "Prokudin-Gorskii"}
# At most so many images of each source, so that none outweighs its kind.
SOURCES: Mapping[str, Mapping[str, int]] = {
    "like BSDS": {"voc": 50, "flickr8k": 50, "coco": 50, "osie": 10, "voc2007": 20, "vocanimals": 5, "landscape": 5},
    "like ImageNet": {"imagen": 50, "nips17": 50, "duts": 70},
    "people, scenes": {
        "idenprof": 25, "ccp": 20, "lspet": 20, "shanghaitech": 15, "faces": 10, "sports100": 10,
        "sun": 30, "miniplaces": 30,
    },
}  # fmt: skip
# Of each kind, the parts of its true colorfulness at which colors are compared.
LEVELS: Mapping[str, tuple[float, ...]] = {
    "Kodachromes": (0.70, 0.75), "like BSDS": (0.65, 0.75), "like ImageNet": (0.50, 0.65), "people, scenes": (0.60,),
    "Prokudin-Gorskii": (0.60,), "Documerica": (0.60,),
}  # fmt: skip


@dataclass(frozen=True)
class DecodedImage:
    """A true image: its kind, what tells it from others, and its center."""

    kind: str
    path: str
    rgb: RGB  # (SIDE, SIDE, 3)


def historical(folder: Path) -> list[DecodedImage]:
    """The images that `provenance.csv` in `folder` lists, in its order."""
    with (folder / "provenance.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    return [
        DecodedImage(COLLECTIONS.get(row["collection"], row["collection"]), row["file"], _center(folder / row["file"]))
        for row in rows
    ]


def modern(folder: Path, sources: Mapping[str, Mapping[str, int]] = SOURCES) -> list[DecodedImage]:
    """Images of the split `val` in a folder's Parquet files: of each source always the same ones."""
    found = _by_source(folder)
    return [
        DecodedImage(kind, path, center_crop(upright_rgb(data, _LIMIT), SIDE))
        for kind, wanted in sources.items()
        for source, count in wanted.items()
        for path, data in found.get(source, [])[:count]
    ]


def greys(images: Sequence[DecodedImage]) -> list[npt.NDArray[np.uint8]]:
    """What a scan of each would hold: its luma as Pillow's mode "L"."""
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
    """The ab `(1, 2, 36, 36)` of about so many images of the split `train`, evenly from all files."""
    files = sorted(folder.glob("*.parquet"))
    for file in files:
        table = pq.read_table(file, columns=["image"], filters=[("split", "==", "train")])
        step = max(1, len(table) * len(files) // count)
        for data in table.column("image")[::step].to_pylist():
            small = upright_rgb(data, _LIMIT).resize((36, 36), Image.Resampling.BOX)
            rgb = torch.from_numpy(np.array(small, np.float32)).permute(2, 0, 1)[None] / 255
            yield rgb_to_lab(rgb)[:, 1:]
