"""Throughput of one predictor if network and GPU cost nothing: the limit set by Python.

    python -m benchmarks.predictor_rate

The unmodified predict stage, on Arrow tables with the load stage's schema, in batches of 512 images of the four most
common shapes; only the GPU's work (the batch's lightness, the network) is replaced by precomputed colors. One thread;
the second column is CPU time, which other work on the machine affects less than wall time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer
from numpy.typing import NDArray

from colorize.bulk.predictor import Predictor
from colorize.bulk.rows import LOADED_SCHEMA
from colorize.imaging.canvas import Canvases
from colorize.predict.colorizer import Colorizer
from colorize.predict.isolated_predictor import IsolatedPredictor, NetworkSource
from colorize.predict.network import Float, Prediction
from colorize.predict.settings import ColorizerSettings

SHAPES = ((600, 800), (800, 600), (600, 900), (900, 600))  # of the small grey copies
BATCH, ROWS = 64, 512
STRIDE, SIZE = 32, 256
MOST_CHROMA = 20.0  # Lab units: as in most images, without chroma outliers


class Instant:
    """A network whose device responds at once."""

    stride, takes_hints, device = STRIDE, False, "cpu"
    canvas: int | None = None

    def __init__(self) -> None:
        self.ready: dict[tuple[int, ...], Prediction] = {}

    def start(
        self, grey_B1HW: NDArray[np.uint8], hints_BCHW: tuple[Float, ...], confidence: bool
    ) -> Callable[[], Prediction]:
        count, _, height, width = grey_B1HW.shape
        if grey_B1HW.shape not in self.ready:
            random, low = np.random.default_rng(0), (height // 4, width // 4)
            ab = random.uniform(-MOST_CHROMA, MOST_CHROMA, (count, 2, *low)).astype(np.float32)
            self.ready[grey_B1HW.shape] = Prediction(ab, random.random((count, *low), np.float32))
        return lambda: self.ready[grey_B1HW.shape]

    def move(self, device: str) -> None:
        """It stays."""


def predictor() -> Predictor:
    """The predict stage around such a colorizer."""
    made = Predictor.__new__(Predictor)
    made.shortfall, made.suspects = "", 0
    made.network = NetworkSource(bytes, ColorizerSettings(), "cpu", 1, BATCH, True)
    made.network.__dict__["colorizer"] = Colorizer(Instant(), size=SIZE, batch_size=BATCH)
    made.isolated = IsolatedPredictor(made.network)
    return made


def loaded(count: int) -> pa.Table:
    """Rows as produced by the load stage."""
    random, canvases = np.random.default_rng(0), Canvases(SIZE, STRIDE)
    rows = []
    for number in range(count):
        seen = canvases.fitted(random.integers(0, 256, SHAPES[number % len(SHAPES)], np.uint8))
        row: dict[str, Any] = {
            "path": f"{number}.jpg",
            "status": "ok",
            "seconds": 0.01,
            "grey": seen.grey.tobytes(),
            "grey_height": seen.shape[0],
            "grey_width": seen.shape[1],
            "canvas_height": seen.canvas[0],
            "canvas_width": seen.canvas[1],
            "hints": b"",
            "data": b"",
            "page": -1,
            "more": [],
        }
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=LOADED_SCHEMA)


def main(rounds: Annotated[int, typer.Option(min=1)] = 15) -> None:
    """Prints the fastest of several rounds."""
    stage, batch = predictor(), loaded(ROWS)
    stage(batch)
    wall, cpu = [], []
    for _ in range(rounds):
        began, began_cpu = time.perf_counter(), time.process_time()
        stage(batch)
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - began_cpu)
    print("| images/s by wall time | by CPU time | Python ms per image |\n| ---: | ---: | ---: |")
    print(f"| {ROWS / min(wall):,.0f} | {ROWS / min(cpu):,.0f} | {1000 * min(cpu) / ROWS:.3f} |")


if __name__ == "__main__":
    typer.run(main)
