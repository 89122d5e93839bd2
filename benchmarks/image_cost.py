"""Cost of a large image without the network: CPU seconds and peak memory of one worker process.

    python -m benchmarks.image_cost

A 12-megapixel JPEG and 200-megapixel TIFF and PNG, generated from a scikit-image photograph with grain, each in its own
process: the load and write stages of the bulk job (hash, decode the small copy; hash, decode, compose, encode into a
file, hash), and the usual way of colorization scripts, full-size float Lab with scikit-image. Memory is the process's
peak resident set, including imports.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import imagecodecs
import numpy as np
import tifffile
import typer
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from colorize.imaging.formats import FileBytes, decode_small, sha256
from colorize.predict.render import Provenance, render_into


@dataclass(frozen=True)
class Kind:
    """An image to generate and measure: size, format, compression, channels and bit depth."""

    width: int
    height: int
    suffix: str
    bits: int = 16
    channels: int = 1
    compression: str | None = None


IMAGES = {
    "12-megapixel JPEG": Kind(4000, 3000, "jpeg", bits=8),
    "200-megapixel 16-bit TIFF, uncompressed": Kind(16000, 12500, "tif"),
    "200-megapixel 16-bit TIFF, Deflate": Kind(16000, 12500, "tif", compression="zlib"),
    "200-megapixel 16-bit RGB TIFF, uncompressed": Kind(16000, 12500, "tif", channels=3),
    "200-megapixel 8-bit TIFF, LZW": Kind(16000, 12500, "tif", bits=8, compression="lzw"),
    "200-megapixel 16-bit PNG": Kind(16000, 12500, "png"),
}
MAX_PIXELS = 400_000_000
MOST_MEMORY = 8 << 30  # a process that needs more is stopped: the machine has other work


def make(path: Path, kind: Kind) -> None:
    """A photograph with grain, the same in each channel."""
    grey = Image.fromarray(data.coffee()).convert("L").resize((kind.width, kind.height), Image.Resampling.BICUBIC)
    grain = np.random.default_rng(0).normal(0, 3, (1024, kind.width)).astype(np.float32)
    white = (1 << kind.bits) - 1
    levels = np.empty((kind.height, kind.width, kind.channels), f"u{kind.bits // 8}")
    for top in range(0, kind.height, 1024):
        strip = np.asarray(grey.crop((0, top, kind.width, min(top + 1024, kind.height))), np.float32)
        levels[top : top + 1024] = np.clip((strip + grain[: len(strip)]) * (white / 255), 0, white)[..., None]
    if kind.suffix == "jpeg":
        Image.fromarray(levels[..., 0]).save(path, quality=90)
    elif kind.suffix == "png":
        path.write_bytes(imagecodecs.png_encode(levels[..., 0], level=1))
    else:
        photometric = "rgb" if kind.channels == 3 else "minisblack"
        tifffile.imwrite(
            path,
            levels if kind.channels == 3 else levels[..., 0],
            photometric=photometric,
            compression=kind.compression,
            predictor=bool(kind.compression),
        )


def ours(path: Path, ab: NDArray[np.float16], target: Path) -> None:
    """The load and write stages."""
    source = FileBytes(path)
    digest = sha256(source)
    decode_small(source, 65536, max_pixels=MAX_PIXELS)
    assert sha256(source) == digest
    with target.open("wb+") as out:
        render_into(out, source, ab, Provenance("m", "", "", digest), max_pixels=MAX_PIXELS)
    sha256(FileBytes(target))


def usual(path: Path, ab: NDArray[np.float16], target: Path) -> None:
    """A typical script: full-size float Lab, color upsampled bilinearly, 8-bit output."""
    from skimage.color import lab2rgb, rgb2lab
    from skimage.transform import resize

    image = tifffile.imread(path) if path.suffix == ".tif" else np.asarray(Image.open(path))
    grey = (image if image.ndim == 2 else image[..., 0]) / float(np.iinfo(image.dtype).max)
    lightness = rgb2lab(np.stack([grey] * 3, axis=-1))[..., :1]
    full = resize(ab.astype(np.float64).transpose(1, 2, 0), grey.shape)
    rgb = lab2rgb(np.concatenate((lightness, full), axis=-1))
    Image.fromarray((rgb * 255).astype(np.uint8)).save(target.with_suffix(".jpg"), quality=90)


WAYS = {"ours": ours, "usual": usual}


def measured(way: str, path: Path) -> str:
    """CPU seconds and peak megabytes of a new process, or why there are none."""
    command = [sys.executable, "-m", "benchmarks.image_cost", "--way", way, "--path", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"died, limited to {MOST_MEMORY >> 30} GB (status {done.returncode})"
    cost = json.loads(done.stdout)
    return f"{cost['seconds']:.2f} s, {cost['peak_mb']:,.0f} MB"


def run_one(way: str, path: Path) -> None:
    """Prints the cost of one run; the start-up and imports are excluded from the seconds, not from the memory."""
    Image.MAX_IMAGE_PIXELS = None
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    ab = np.random.default_rng(0).uniform(-40, 40, (2, 56, 72)).astype(np.float16)
    seconds = []
    for _ in range(3 if path.suffix == ".jpeg" else 1):
        started = time.process_time()
        WAYS[way](path, ab, path.with_name(f"colored-{path.name}"))
        seconds.append(time.process_time() - started)
    print(json.dumps({"seconds": min(seconds), "peak_mb": peak_mb()}))


def peak_mb() -> float:
    """Of this process; `getrusage` would include its parent's memory from before the fork."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main(
    way: Annotated[str, typer.Option()] = "",
    path: Annotated[Path | None, typer.Option()] = None,
    only: Annotated[str, typer.Option(help="only images whose name contains this")] = "",
) -> None:
    """Runs the benchmark and prints a Markdown table."""
    if path is not None:
        run_one(way, path)
        return
    print("| | " + " | ".join(WAYS) + " |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name, kind in IMAGES.items():
            if only in name:
                made = Path(folder, f"image.{kind.suffix}")
                make(made, kind)
                print(f"| {name} | " + " | ".join(measured(w, made) for w in WAYS) + " |", flush=True)


if __name__ == "__main__":
    typer.run(main)
