"""What one large picture costs beside the network: CPU seconds and peak memory of one worker process.

    python -m tests.benchmarks.picture_cost

A grey 12-megapixel JPEG and a grey 200-megapixel 16-bit TIFF (uncompressed), made of scikit-image's photographs with
grain, each in a process of its own: `load` (decode the small copy), `write` (decode, compose, encode), and the usual
way of colorization scripts, full-size Lab in float with scikit-image. Memory is the process's peak resident set.
"""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from colorize.image_io import decode_small
from colorize.render import Provenance, render

PICTURES = {"12-megapixel JPEG": (4000, 3000, "JPEG"), "200-megapixel 16-bit TIFF": (16000, 12500, "TIFF")}
MAX_PIXELS = 400_000_000
MOST_MEMORY = 8 << 30  # a process that asks for more is stopped: the machine has other work


def make(path: Path, width: int, height: int, format: str) -> None:
    """A grey photograph with grain."""
    grey = Image.fromarray(data.coffee()).convert("L").resize((width, height), Image.Resampling.BICUBIC)
    random = np.random.default_rng(0)
    grain = random.normal(0, 3, (1024, width)).astype(np.float32)
    rows = np.arange(height) % 1024
    if format == "JPEG":
        Image.fromarray(np.clip(np.asarray(grey) + grain[rows], 0, 255).astype(np.uint8)).save(path, quality=90)
        return
    levels = np.empty((height, width), np.uint16)
    for top in range(0, height, 1024):
        strip = np.asarray(grey.crop((0, top, width, min(top + 1024, height))), np.float32)
        levels[top : top + 1024] = np.clip((strip + grain[: len(strip)]) * 257, 0, 65535)
    Image.fromarray(levels).save(path, "TIFF")


def ours(source: bytes, ab: NDArray[np.float16], target: Path) -> None:
    """The load and the write stage."""
    decode_small(source, 65536, max_pixels=MAX_PIXELS)
    target.write_bytes(render(source, ab, Provenance("m", "", "", ""), max_pixels=MAX_PIXELS).data)


def usual(source: bytes, ab: NDArray[np.float16], target: Path) -> None:
    """As colorization scripts do: full-size Lab in float, color enlarged bilinearly, 8 bits out."""
    from skimage.color import lab2rgb, rgb2lab
    from skimage.transform import resize

    image = np.asarray(Image.open(io.BytesIO(source)))
    grey = image / float(np.iinfo(image.dtype).max)
    lightness = rgb2lab(np.stack([grey] * 3, axis=-1))[..., :1]
    full = resize(ab.astype(np.float64).transpose(1, 2, 0), grey.shape)
    rgb = lab2rgb(np.concatenate((lightness, full), axis=-1))
    Image.fromarray((rgb * 255).astype(np.uint8)).save(target, quality=90)


WAYS = {"ours": ours, "usual": usual}


def measured(way: str, path: Path) -> str:
    """CPU seconds and peak megabytes, or why there are none, from a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.picture_cost", "--way", way, "--path", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"died, limited to {MOST_MEMORY >> 30} GB (status {done.returncode})"
    cost = json.loads(done.stdout)
    return f"{cost['seconds']:.2f} s, {cost['peak_mb']:,.0f} MB"


def run_one(way: str, path: Path) -> None:
    """Prints what one run costs, the process's start and imports left out of the seconds, not of the memory."""
    Image.MAX_IMAGE_PIXELS = None
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    ab = np.random.default_rng(0).uniform(-40, 40, (2, 56, 72)).astype(np.float16)
    source = path.read_bytes()
    seconds = []
    for _ in range(3 if path.suffix == ".jpeg" else 1):
        started = time.process_time()
        WAYS[way](source, ab, path.with_name(f"colored-{path.name}"))
        seconds.append(time.process_time() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": min(seconds), "peak_mb": peak}))


def main(way: Annotated[str, typer.Option()] = "", path: Annotated[Path | None, typer.Option()] = None) -> None:
    """Measures and prints a Markdown table."""
    if path is not None:
        run_one(way, path)
        return
    print("| | " + " | ".join(WAYS) + " |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name, (width, height, format) in PICTURES.items():
            made = Path(folder, f"picture.{format.lower()}")
            make(made, width, height, format)
            print(f"| {name} | " + " | ".join(measured(w, made) for w in WAYS) + " |", flush=True)


if __name__ == "__main__":
    typer.run(main)
