"""Triage accuracy: a confusion matrix of kinds, and the precision of each kind.

    python -m benchmarks.triage
    python -m benchmarks.triage --photographs photos.parquet --limit 800
    python -m benchmarks.triage --data sorted/        # folders named color, grey, toned, text, ... or anything

Color photographs come from an archive with a column `image`, or a folder; by default they are crops of scikit-image's.
From each are generated: a copy with a third of its saturation and a cast, its grey copy, the same stored as RGB, an
unevenly faded sepia copy with noise, its color negative behind an orange mask, its black-and-white negative, and grey
and sepia prints with a colored object in the frame (see `frames`); each a JPEG of quality 40 to 95. As many pages of
text and blank sheets are drawn. `--data` takes your own images, in folders named by kind.
"""

from __future__ import annotations

import io
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, TypeAlias, get_args

import numpy as np
import pyarrow.parquet as pq
import typer
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from skimage import data

from benchmarks.frames import FRAMED
from colorize.imaging.formats import ImageDecodeError, decode_small
from colorize.imaging.triage import Kind

Random: TypeAlias = np.random.Generator
Float: TypeAlias = NDArray[np.float32]
Make: TypeAlias = Callable[[Image.Image, Random], Image.Image]

SHARED = Path(__file__).parents[3] / "shared/data/photos"
MAX_PIXELS = 400_000_000
AREA = 65536  # area in pixels of the network's input
KINDS: tuple[Kind, ...] = get_args(Kind)


def toned(photograph: Image.Image, random: Random) -> Image.Image:
    """Sepia of any hue, varying by up to 12 levels from side to side, with noise."""
    grey = _levels(photograph.convert("L"))[..., None] / 255
    dark = np.array([40, 20, 5]) * random.uniform(0.3, 1.3, 3)
    light = np.array([255, 240, 205]) * random.uniform(0.85, 1, 3)
    across = np.linspace(-1, 1, grey.shape[1])[None, :, None] * random.uniform(-12, 12, 3)
    noise = random.normal(0, random.uniform(0, 5), (*grey.shape[:2], 3))
    return _image(dark + (light - dark) * grey + across + noise)


def muted(photograph: Image.Image, random: Random) -> Image.Image:
    """Faded to a third of its saturation, with a cast of up to 25 levels and 10 %."""
    levels = _levels(photograph)
    grey = _levels(photograph.convert("L"))[..., None]
    return _image((grey + (levels - grey) / 3) * random.uniform(0.9, 1, 3) + random.uniform(0, 25, 3))


def color_negative(photograph: Image.Image, random: Random) -> Image.Image:
    """Inverted, behind the orange mask of color film."""
    mask = np.array([235, 150, 95]) * random.uniform(0.9, 1.08, 3)
    return _image((1 - _levels(photograph) / 255) ** random.uniform(0.6, 1.2) * mask)


def grey_negative(photograph: Image.Image, random: Random) -> Image.Image:
    """Inverted grey, with the flat curve of film."""
    inverted = 1 - _levels(photograph.convert("L")) / 255
    return _image(random.uniform(5, 40) + inverted ** random.uniform(0.7, 1.3) * random.uniform(170, 215))


def page(photograph: Image.Image, random: Random) -> Image.Image:
    """Lines of words on slightly unevenly lit paper."""
    width, height = 900, 1200
    image = Image.new("L", (width, height), 255)
    draw, size = ImageDraw.Draw(image), int(random.integers(14, 34))
    font = ImageFont.load_default(size)
    for top in range(60, height - 80, round(size * random.uniform(1.3, 1.9))):
        words = ("".join(random.choice(list("abcdefghiklmnoprstuvwz"), random.integers(2, 10))) for _ in range(30))
        draw.text((70, top), " ".join(words)[: int((width - 140) / size * 1.9)], int(random.integers(0, 70)), font)
    ink = _levels(image.filter(ImageFilter.GaussianBlur(0.7))) / 255
    paper = random.uniform(190, 245) + np.linspace(-1, 1, width)[None] * random.uniform(0, 8)
    return _image(np.repeat((ink * paper + random.normal(0, 3, ink.shape))[..., None], 3, axis=2)).convert("L")


def blank(photograph: Image.Image, random: Random) -> Image.Image:
    """Paper with grain and a shade across it, of any lightness."""
    shade = np.linspace(-1, 1, 500)[None] * random.uniform(0, 6)
    return _image(random.uniform(5, 250) + shade + random.normal(0, random.uniform(0.5, 4), (600, 500)))


MADE: Mapping[str, Make] = {
    "color": lambda photograph, random: photograph,
    "color, muted": muted,
    "grey": lambda photograph, random: photograph.convert("L"),
    "grey_as_rgb": lambda photograph, random: photograph.convert("L").convert("RGB"),
    "toned": toned,
    "blank": blank,
    "text": page,
    "negative": color_negative,
    "negative, black and white": grey_negative,
    **FRAMED,
}


def photographs(source: Path | None, limit: int) -> Iterator[Image.Image]:
    """About `limit` color photographs, sampled across the source."""
    if source is None and SHARED.is_dir():
        source = SHARED
    if source is None:
        yield from _crops(limit)
        return
    archives = sorted(source.glob("*.parquet")) if source.is_dir() else [source]
    if not archives:
        paths = sorted(path for path in source.rglob("*") if path.is_file())
        yield from (Image.open(path).convert("RGB") for path in paths[:: max(1, len(paths) // limit)])
        return
    for archive in archives:
        column = pq.read_table(archive, columns=["image"])["image"]
        for index in range(0, len(column), max(1, len(column) * len(archives) // limit)):
            found = column[index].as_py()
            yield Image.open(io.BytesIO(found["bytes"] if isinstance(found, dict) else found)).convert("RGB")


def _crops(limit: int) -> Iterator[Image.Image]:
    random = np.random.default_rng(1)
    sources = [Image.fromarray(getattr(data, name)()) for name in ("astronaut", "coffee", "chelsea", "rocket")]
    for number in range(min(limit, 120)):
        source = sources[number % len(sources)]
        side = int(random.integers(200, min(source.size)))
        left, top = (int(random.integers(0, full - side + 1)) for full in source.size)
        yield source.crop((left, top, left + side, top + side))


def made(source: Path | None, limit: int) -> Iterator[tuple[str, bytes]]:
    """The kind of each generated image, and its JPEG."""
    for number, photograph in enumerate(photographs(source, limit)):
        random = np.random.default_rng(number)
        for name, make in MADE.items():
            out = io.BytesIO()
            make(photograph, random).save(out, "JPEG", quality=int(random.integers(40, 96)))
            yield name, out.getvalue()


def sorted_images(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Images by the name of their folder."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield path.parent.name, path.read_bytes()


def counted(images: Iterator[tuple[str, bytes]]) -> dict[str, Counter[str]]:
    """For each name, the number of images classified as each kind."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for name, encoded in images:
        try:
            counts[name][decode_small(encoded, AREA, max_pixels=MAX_PIXELS).kind] += 1
        except ImageDecodeError as error:
            counts[name][error.code] += 1
    return counts


def table(counts: Mapping[str, Counter[str]]) -> Iterator[str]:
    """Markdown: fractions of each row, then the precision of each column if all rows were equally frequent."""
    columns = [*KINDS, *sorted({kind for row in counts.values() for kind in row} - set(KINDS))]
    yield "| actual, predicted | " + " | ".join(columns) + " | images |"
    yield "| --- |" + " --- |" * (len(columns) + 1)
    shares = {name: {kind: row[kind] / row.total() for kind in columns} for name, row in counts.items()}
    for name, row in shares.items():
        cells = [f"{100 * row[kind]:.1f} %" if row[kind] else "" for kind in columns]
        yield f"| {name} | {' | '.join(cells)} | {counts[name].total()} |"
    precision = [_precision(shares, kind) for kind in columns]
    yield "| precision | " + " | ".join("" if math.isnan(p) else f"{100 * p:.1f} %" for p in precision) + " | |"


def _precision(shares: Mapping[str, Mapping[str, float]], kind: str) -> float:
    taken = sum(row[kind] for row in shares.values())
    right = sum(row[kind] for name, row in shares.items() if name.split(",")[0] == kind)
    return right / taken if taken else math.nan


def _levels(image: Image.Image) -> Float:
    return np.asarray(image, np.float32)


def _image(levels: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def main(
    photographs: Annotated[Path | None, typer.Option(help="color photographs: Parquet or a folder")] = None,
    data: Annotated[Path | None, typer.Option(help="your images, in folders named by kind")] = None,
    limit: Annotated[int, typer.Option(min=1, help="number of photographs")] = 400,
) -> None:
    """Runs the benchmark and prints a Markdown table."""
    for line in table(counted(sorted_images(data) if data else made(photographs, limit))):
        print(line, flush=True)


if __name__ == "__main__":
    typer.run(main)
