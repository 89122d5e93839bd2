"""Helpers of `make demo`: sample photographs from installed packages, and a before-and-after sheet.

python scripts/demo.py prepare FOLDER           writes grey "scans" of color photographs, and old grey photographs
python scripts/demo.py sheet SCANS COLORED OUT  puts each scan beside its colored copy
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image, ImageOps

app = typer.Typer(add_completion=False)

TILE = 256  # pixels, height of an image before its row is scaled to the sheet's width
WIDTH = 1400
PAIRS_PER_ROW = 2
GAP = 6


@app.command()
def prepare(folder: Path) -> None:
    """Writes the demo's scans: scikit-image's and scikit-learn's photographs, converted to grey, in several formats."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    china, flower = load_sample_images().images
    scans: dict[str, NDArray[np.uint8]] = {
        "people/astronaut.jpg": data.astronaut(),
        "people/cameraman.tif": data.camera(),
        "places/palace.jpg": china,
        "places/launch.jpg": data.rocket(),
        "things/flower.png": flower,
        "things/coffee.webp": data.coffee(),
        "things/cat.jpg": data.chelsea(),
        "things/motorcycle.png": data.stereo_motorcycle()[0],
    }
    for name, pixels in scans.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).convert("L").save(path, lossless=path.suffix == ".webp")


@app.command()
def sheet(scans: Path, colored: Path, out: Path) -> None:
    """Saves pairs of scan and colored copy as one image."""
    pairs = [_pair(path, colored / path.relative_to(scans)) for path in sorted(scans.rglob("*.*")) if path.is_file()]
    rows = [_beside(pairs[i : i + PAIRS_PER_ROW]) for i in range(0, len(pairs), PAIRS_PER_ROW)]
    rows = [row.resize((WIDTH, round(row.height * WIDTH / row.width)), Image.Resampling.LANCZOS) for row in rows]
    page = Image.new("RGB", (WIDTH, sum(row.height + GAP for row in rows) - GAP), "white")
    top = 0
    for row in rows:
        page.paste(row, (0, top))
        top += row.height + GAP
    page.save(out, quality=85)


def _pair(scan: Path, copy: Path) -> Image.Image:
    return _beside([_tile(scan), _tile(copy)], gap=0)


def _tile(path: Path) -> Image.Image:
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    return image.resize((round(image.width * TILE / image.height), TILE), Image.Resampling.LANCZOS)


def _beside(images: list[Image.Image], gap: int = GAP) -> Image.Image:
    width = sum(image.width + gap for image in images) - gap
    row = Image.new("RGB", (width, TILE), "white")
    left = 0
    for image in images:
        row.paste(image, (left, 0))
        left += image.width + gap
    return row


if __name__ == "__main__":
    app()
