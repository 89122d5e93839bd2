"""Small images in every format and mode, and helpers to color bytes."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from colorize.imaging.compose import compose
from colorize.imaging.formats import DecodedImage, Provenance, decode, encode

LIMIT = 10**8
PROVENANCE = Provenance("unet", "a" * 64, "1931/K\u00f6ln & 'more' <1>.tif", "b" * 64)
LOSSLESS = ("PNG", "TIFF", "WEBP", "BMP", "JPEG2000")


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    if format == "WEBP":
        options = {"lossless": True, "exact": True, **options}
    image.save(out, format, **options)
    return out.getvalue()


def opened(encoded: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(encoded))
    image.load()
    return image


def astronaut() -> Image.Image:
    return Image.fromarray(data.astronaut())


@cache
def _face() -> Image.Image:
    return astronaut().crop((60, 0, 410, 350))


def photograph(mode: str = "L", size: tuple[int, int] = (61, 47)) -> Image.Image:
    return _face().resize(size).convert(mode)


def smooth_ab(seed: int = 3) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-45, 45, (2, 3, 4)).astype(np.float32)


def colored(encoded: bytes) -> tuple[DecodedImage, bytes]:
    image = decode(encoded, max_pixels=LIMIT)
    return image, encode(image, compose(image, smooth_ab()), PROVENANCE)


def grey(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.convert("L"))


def is_colored(image: Image.Image) -> bool:
    rgb = np.asarray(image.convert("RGB")).astype(int)
    return bool(np.abs(rgb[..., 0] - rgb[..., 2]).max() > 8)


def labeled_archive(folder: Path) -> Path:
    """A Parquet file of forty small color images, every second a bird, without a split column."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(40):
        label = ("bird", "ship")[index % 2]
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((48, 32)).save(buffer, "PNG")
        rows.append({"path": f"{label}/{index}.png", "label": label, "image": buffer.getvalue()})
    pq.write_table(pa.Table.from_pylist(rows), folder / "images.parquet")
    return folder / "images.parquet"
