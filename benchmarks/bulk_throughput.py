"""Throughput of the whole bulk job, of its stages in one process, and of a typical script; and the start-up time.

    python -m benchmarks.bulk_throughput --images 2000
    python -m benchmarks.bulk_throughput --images 100 --plain 0 --usual 30 --width 4000

Generates grey JPEGs from scikit-image's photographs (all different) and colors them in three ways: with `colorize
bulk`; with the same stages in sequence in one process; and as typical colorization scripts do, with full-size float Lab
(OpenCV), the same network in PyTorch one image at a time, and a new JPEG. Prints a table, and the peak memory of each
process in each quarter of the job, which must not grow.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import typer
from PIL import Image

from colorize.imaging.canvas import canvas_for
from colorize.imaging.formats import decode_small
from colorize.models.checkpoint import load_checkpoint
from colorize.predict.model_files import find_model
from colorize.predict.opening import available_cpus, open_colorizer
from colorize.predict.render import Provenance, render
from colorize.predict.settings import ColorizerSettings
from colorize.storage.root import Storage

MAX_PIXELS = 400_000_000
BATCH = 16


def main(
    images: Annotated[int, typer.Option(help="number of images")] = 2000,
    plain: Annotated[int, typer.Option(help="number of images in the plain process")] = 300,
    usual: Annotated[int, typer.Option(help="number of images in the typical script")] = 100,
    width: Annotated[int, typer.Option(help="image width; 1152 is 1 megapixel, 4000 is 12")] = 1152,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="settings of the job")] = None,
) -> None:
    """Runs the benchmark and prints the results."""
    with tempfile.TemporaryDirectory() as folder:
        scans, colored = Path(folder, "scans"), Path(folder, "colored")
        make_scans(scans, images, width)
        report, seconds = run_job(scans, colored, overrides or [])
        files = sorted(scans.iterdir())
        rates = {"one plain process": run_plain(files[:plain], Path(folder, "plain")) if plain else None}
        rates["typical script"] = run_usual(files[:usual], Path(folder, "usual")) if usual else None
    start = report["seconds_to_first_output"]
    steady = (images - BATCH) / (report["seconds"] - start)
    print(f"{images} grey JPEGs of {width} x {width * 3 // 4}, {available_cpus()} CPU threads in one process")
    print(f"whole job             {images / seconds:7.2f} images/s  ({seconds:.1f} s, command to prompt)")
    print(f"  after the start     {steady:7.2f} images/s  (first output after {start:.1f} s)")
    for name, rate in rates.items():
        if rate:
            print(f"{name:21} {rate:7.2f} images/s  (without start-up); the job is {steady / rate:.2f} times that")
    for entry in report["processes"]:
        print(f"memory of {entry['role']:8} {entry['pid']:>8}: {entry['peak_mb_by_quarter']} MB by quarter of the run")


def make_scans(folder: Path, count: int, pixels: int = 1152) -> None:
    """Grey JPEGs of this width, cut from photographs at random positions and scales."""
    from skimage import data

    folder.mkdir()
    random = np.random.default_rng(0)
    photographs = (data.astronaut(), data.coffee(), data.rocket(), data.chelsea())
    sources = [Image.fromarray(photograph).convert("L") for photograph in photographs]
    for number in range(count):
        source = sources[number % len(sources)]
        width = int(random.integers(source.width // 2, source.width + 1))
        height = min(source.height, width * 3 // 4)
        left = int(random.integers(0, source.width - width + 1))
        top = int(random.integers(0, source.height - height + 1))
        scan = source.crop((left, top, left + width, top + height))
        scan = scan.resize((pixels, pixels * 3 // 4), Image.Resampling.BICUBIC)
        scan.save(folder / f"{number:05d}.jpg", quality=90)


def run_job(scans: Path, colored: Path, overrides: list[str]) -> tuple[dict[str, Any], float]:
    """Runs `colorize bulk` in its own process; returns its record and wall time."""
    started = time.perf_counter()
    subprocess.run(job_command(scans, colored, overrides), check=True)
    seconds = time.perf_counter() - started
    return json.loads((colored / "_colorize/run.json").read_text()), seconds


def job_command(scans: Path, colored: Path, overrides: list[str]) -> list[str]:
    """The `colorize bulk` command with these settings."""
    options = [word for override in overrides for word in ("--set", override)]
    return [sys.executable, "-m", "colorize", "bulk", "--input", str(scans), "--output", str(colored), *options]


def run_plain(files: list[Path], target: Path) -> float:
    """The same stages over `files`, in sequence; images per second."""
    model = find_model("default")
    colorizer = open_colorizer(model.data, ColorizerSettings())
    storage = Storage(target)
    colorizer([np.zeros((864, 1152), np.uint8)])  # the first pass allocates
    started = time.perf_counter()
    for first in range(0, len(files), BATCH):
        batch = {file.name: file.read_bytes() for file in files[first : first + BATCH]}
        small = [decode_small(data, colorizer.size**2, max_pixels=MAX_PIXELS).luma for data in batch.values()]
        for (name, data), ab in zip(batch.items(), colorizer(small), strict=True):
            rendered = render(data, ab, Provenance(model.name, model.sha256, name, ""), max_pixels=MAX_PIXELS)
            storage.write(name, rendered.data)
    return len(files) / (time.perf_counter() - started)


def run_usual(files: list[Path], target: Path) -> float:
    """A typical script: each image through full-size float Lab and the network; images per second."""
    torch.set_num_threads(available_cpus())
    checkpoint = find_model("default")
    network = load_checkpoint(checkpoint.data).model.eval()
    canvas = canvas_for(3, 4, ColorizerSettings().size, checkpoint.stride)
    target.mkdir()
    started = 0.0
    for number, file in enumerate(files):
        if number == 1:  # the first pass allocates
            started = time.perf_counter()
        grey = np.asarray(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE))
        lab = cv2.cvtColor(cv2.merge([grey] * 3).astype(np.float32) / 255, cv2.COLOR_BGR2LAB)
        small = cv2.resize(lab[..., 0], canvas[::-1], interpolation=cv2.INTER_AREA)
        with torch.inference_mode():
            ab = network.color(torch.from_numpy(small)[None, None])[0].numpy()
        lab[..., 1:] = cv2.resize(np.ascontiguousarray(ab.transpose(1, 2, 0)), grey.shape[::-1])
        colored = cv2.cvtColor(lab, cv2.COLOR_LAB2BGR)
        cv2.imwrite(str(target / file.name), np.rint(255 * colored).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return (len(files) - 1) / (time.perf_counter() - started)


if __name__ == "__main__":
    typer.run(main)
