"""Samples per second of `colorize train`, with and without Ray, against a plain PyTorch loop; start-up time apart.

    python -m benchmarks.training_throughput --recipe lab_cnn --side 64 --images 8192

The plain loop takes the same steps (same network, batch size, precision, threads) on images in memory. The command
reads the same images as JPEG from a Parquet file. Its rate is that of the last epoch after its first batch; the wait
for that batch, and the time from the command to the first step, are printed separately.
"""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer
from PIL import Image

from colorize.settings import load_settings
from colorize.train.device import configure_device
from colorize.train.images import as_float
from colorize.train.settings import TrainSettings
from colorize.train.step import create_state, step

WARM_STEPS = 5


def main(
    recipe: Annotated[str, typer.Option(help="name of a file in configs/train")] = "lab_cnn",
    side: Annotated[int, typer.Option(help="side of the square images")] = 64,
    images: Annotated[int, typer.Option(help="images per epoch")] = 8192,
    batch: Annotated[int, typer.Option(help="batch size")] = 64,
    epochs: int = 2,
    rounds: Annotated[int, typer.Option(help="interleaved measurements of each")] = 2,
) -> None:
    """Runs the benchmark and prints the results."""
    settings = [
        f"trainer.sizes=[{side}]", f"validation.size={side}", f"data.short_side={side}", f"trainer.batch_size={batch}",
        f"trainer.epochs={epochs}", "trainer.workers=1", "validation.limit=16", "data.aspects=[1.0]",
        *([f"model.args.canvas={side}"] if recipe == "lab_cnn" else []),
    ]  # fmt: skip
    config = Path("configs/train") / f"{recipe}.yaml"
    with tempfile.TemporaryDirectory() as folder:
        squares = crops(images, side)
        write_archive(squares, Path(folder, "images.parquet"))
        for number in range(rounds):
            plain = plain_rate(load_settings(TrainSettings, config, settings), squares)
            print(f"{recipe}, {side} px, batch {batch}, {torch.get_num_threads()} threads: plain {plain:.1f} samples/s")
            for way, words in (("on Ray", []), ("without Ray", ["--no-ray"])):
                start, wait, rate = command_rates(config, settings, words, Path(folder), f"run-{number}-{len(words)}")
                print(f"  {way} {rate:.1f} samples/s = {100 * rate / plain:.1f} % of it, once an epoch runs")
                print(
                    f"    first step {start:.1f} s after the command; a later epoch's batch after {wait:.3f} s",
                    flush=True,
                )


def crops(count: int, side: int) -> npt.NDArray[np.uint8]:
    """Squares `(count, side, side, 3)` cut from scikit-image's photographs at random positions."""
    from skimage import data

    random = np.random.default_rng(0)
    photographs = (data.astronaut(), data.coffee(), data.rocket(), data.chelsea())
    cut = []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        top, left = (int(random.integers(0, length - side + 1)) for length in photograph.shape[:2])
        cut.append(photograph[top : top + side, left : left + side])
    return np.stack(cut)


def write_archive(squares: npt.NDArray[np.uint8], path: Path) -> None:
    """The squares as JPEGs, with 64 more for validation."""
    encoded = []
    for square in [*squares, *squares[:64]]:
        buffer = io.BytesIO()
        Image.fromarray(square).save(buffer, "JPEG", quality=92)
        encoded.append(buffer.getvalue())
    split = ["train"] * len(squares) + ["val"] * 64
    pq.write_table(pa.table({"image": encoded, "split": split}), path, row_group_size=512)


def plain_rate(settings: TrainSettings, squares: npt.NDArray[np.uint8]) -> float:
    """Samples per second of the step alone, in this process."""
    configure_device(torch.device("cpu"))
    state = create_state(settings)
    rgb, size = torch.from_numpy(squares), settings.trainer.batch_size
    order = torch.split(torch.randperm(len(rgb), generator=torch.Generator().manual_seed(0)), size)
    for index in order[:WARM_STEPS]:
        step(state, as_float(rgb[index]))
    started = time.perf_counter()
    for index in order:
        step(state, as_float(rgb[index]))
    return len(rgb) / (time.perf_counter() - started)


def command_rates(
    config: Path, settings: list[str], words: list[str], folder: Path, name: str
) -> tuple[float, float, float]:
    """Seconds to the first step, and to the last epoch's first batch; samples per second after it."""
    overrides = [word for setting in [*settings, "data.split=null"] for word in ("--set", setting)]
    places = ["--config", str(config), "--data", str(folder / "images.parquet"), "--output", str(folder / name)]
    command = [sys.executable, "-m", "colorize", "train", *places, *words, *overrides]
    started, first = time.perf_counter(), 0.0
    environment = {**os.environ, "RAY_ADDRESS": ""}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment) as it:
        assert it.stderr is not None
        for line in it.stderr:
            if not first and "epoch 1, " in line:
                first = time.perf_counter() - started
    if it.returncode:
        sys.exit(f"the command ended with status {it.returncode}")
    last = list(csv.DictReader((folder / name / "metrics.csv").open()))[-1]
    return first, float(last["first_batch_seconds"]), float(last["pictures_per_second"])


if __name__ == "__main__":
    typer.run(main)
