"""Time and memory of a job over very many inputs, and the time until a second start finds nothing to do.

    python -m benchmarks.ledger_scale --inputs 10000 --inputs 100000
    python -m benchmarks.ledger_scale --inputs 20000 --side 100

Images are tiny and the network is trivial, so that the cost of bookkeeping remains: planning, one manifest row per
input, compaction, and the comparison of manifest, source and output at the second start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from colorize.models import create_model
from colorize.models.checkpoint import dump_checkpoint
from tests.conftest import grey_jpeg

PER_FOLDER = 1000
COSTS_NOTHING = {"widths": [4, 4, 4]}  # arguments of lab_cnn


def main(
    inputs: Annotated[list[int] | None, typer.Option(help="number of inputs; may be repeated")] = None,
    side: Annotated[int, typer.Option(help="side of an image in pixels")] = 16,
) -> None:
    """Runs the benchmark and prints the results."""
    for count in inputs or [10_000, 100_000]:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            _write_images(folder / "scans", count, side)
            torch.manual_seed(0)
            model = create_model("lab_cnn", **COSTS_NOTHING)
            (folder / "model.safetensors").write_bytes(dump_checkpoint(model, name="lab_cnn", args=COSTS_NOTHING))
            first, seconds = _run(folder)
            second, again = _run(folder)
        driver = next(entry for entry in first["processes"] if entry["role"] == "driver")
        assert second["totals"]["done_before"] == count
        print(f"{count} inputs: {1000 * seconds / count:.2f} ms each ({seconds:.0f} s), second start {again:.1f} s")
        print(f"  {first['pictures_per_second']:.0f} images/s by the run's own clock")
        print(f"  driver's memory by quarter of the run: {driver['peak_mb_by_quarter']} MB")


def _write_images(folder: Path, count: int, side: int) -> None:
    """A hundred different images under many names."""
    kinds = [grey_jpeg(seed, side, side) for seed in range(100)]
    for number in range(count):
        path = folder / f"{number // PER_FOLDER:04d}" / f"{number:07d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(kinds[number % len(kinds)])


def _run(folder: Path) -> tuple[dict[str, Any], float]:
    """Runs `colorize bulk` in its own process; returns its record and wall time."""
    words = ["--input", str(folder / "scans"), "--output", str(folder / "out")]
    words += ["--model", str(folder / "model.safetensors"), "--set", "colorizer.size=32"]
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "colorize", "bulk", *words], check=True, stderr=subprocess.DEVNULL)
    return json.loads((folder / "out/_colorize/run.json").read_text()), time.perf_counter() - started


if __name__ == "__main__":
    os.environ.pop("RAY_ADDRESS", None)
    typer.run(main)
