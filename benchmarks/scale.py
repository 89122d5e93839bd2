"""The bulk job on 1, 2 and 4 simulated nodes, and the driver's memory for very many inputs: see docs/scale.md.

    python -m benchmarks.scale --nodes 1 --nodes 2 --nodes 4
    python -m benchmarks.scale --inputs 10000 --inputs 200000
    python -m benchmarks.scale --images 100

The nodes are simulated (processes on this machine that each declare 4 CPUs and 2 GPUs), and so is the network, which
sleeps long enough that this machine's CPUs do not matter. Planning, Ray's scheduling, loading, composing, writing and
bookkeeping are real. Weak scaling: each node gets the same number of images; the time is measured from the end of the
first wave of batches to the end of the last.

For the driver's memory the inputs are empty files, each of which becomes a row in the manifest: bookkeeping only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import typer

from benchmarks.stand_in import SECONDS, SleepingPredictor
from colorize.bulk.load import Loader, Stamp, load
from colorize.bulk.settings import OutputSettings, TriageSettings
from colorize.bulk.sinks import FolderSink
from colorize.bulk.write import Writer, write
from colorize.datasets.settings import SourceSettings
from colorize.datasets.sources import open_source
from colorize.imaging.canvas import Canvases
from colorize.imaging.settings import LimitSettings
from colorize.storage.root import Storage
from tests.conftest import grey_jpeg

CPUS, GPUS = 4, 2  # of a simulated node
PER_CALL = 16  # batch size of a predictor
PER_FOLDER = 1000
MANY = {"source": {"rows_per_task": 256}, "run": {"tolerate_failures": 1.0}}

QUIET = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}

app = typer.Typer()


@app.command()
def main(
    nodes: Annotated[list[int] | None, typer.Option(help="number of nodes; may be repeated")] = None,
    inputs: Annotated[
        list[int] | None, typer.Option(help="number of inputs, for the driver's memory; repeatable")
    ] = None,
    images: Annotated[int, typer.Option(help="number of one-megapixel images, for the cost of each stage")] = 0,
    calls: Annotated[int, typer.Option(help="batches of 16 images per predictor")] = 6,
    seconds: Annotated[float, typer.Option(help="seconds per image of the stand-in")] = 1.0,
) -> None:
    """Runs the benchmark and prints the results."""
    alone: float | None = None
    for count in nodes or []:
        rate = weak_scaling(count, calls, seconds)
        alone = alone or rate / count
        ideal = count * GPUS / seconds
        print(
            f"{count} nodes: {rate:.3f} images/s, {rate / (count * alone):.1%} of the first run's rate a node, "
            f"{rate / ideal:.1%} of what the sleeping predictors allow",
            flush=True,
        )
    for count in inputs or []:
        peaks, cpu = driver_memory(count)
        print(f"{count} inputs: driver's memory by quarter {peaks} MB, its CPU time {cpu:.1f} s", flush=True)
    if images:
        stage_costs(images)


def weak_scaling(nodes: int, calls: int, seconds: float) -> float:
    """Images per second, once every predictor has returned its first batch."""
    wave = nodes * GPUS * PER_CALL
    with tempfile.TemporaryDirectory() as temporary, simulated_cluster(nodes, seconds) as address:
        folder = Path(temporary)
        for number in range(calls * wave):
            (folder / "scans").mkdir(exist_ok=True)
            (folder / f"scans/{number:06d}.jpg").write_bytes(grey_jpeg(number))
        settings = {
            "pool": {"min": nodes * GPUS, "max": nodes * GPUS, "batch_size": PER_CALL // 2},
            "colorizer": {"size": 64},
            "run": {"start_seconds": 120.0},
        }
        _start(folder, settings, address)
        times = np.sort(_finished(folder / "out"))
    assert len(times) == calls * wave
    return float((len(times) - wave) / (times[-1] - times[wave - 1]))


def driver_memory(inputs: int) -> tuple[list[float], float]:
    """A run over so many empty files: the driver's peak in each quarter in MB, and its CPU seconds."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number in range(inputs):
            path = folder / f"scans/{number // PER_FOLDER:04d}/{number:07d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        os.environ[SECONDS] = "0"
        report, cpu = _start(folder, MANY, None), float((folder / "cpu").read_text())
    driver = next(entry for entry in report["processes"] if entry["role"] == "driver")
    return driver["peak_mb_by_quarter"], cpu


def stage_costs(images: int) -> None:
    """Prints the CPU time and bytes per image of the stages, run in sequence in this process."""
    from benchmarks.bulk_throughput import make_scans

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_scans(folder / "scans", images)
        source = open_source(str(folder / "scans"), SourceSettings(rows_per_task=images))
        loader = Loader(
            source.reader, LimitSettings(), TriageSettings(), Canvases(256, 32), 256**2, 0, Stamp("stand-in", "", "", 1)
        )
        sink = FolderSink(Storage(folder / "out"), 8)
        writer = Writer(source.storage, sink, LimitSettings(), OutputSettings(), 16 << 20, on_disk=True)
        os.environ[SECONDS] = "0"
        write(SleepingPredictor()(next(load(source.units, loader))), writer)  # imports, tables, caches
        started = time.process_time()
        loaded = pa.concat_tables(load(source.units, loader))
        between = time.process_time()
        summary = write(SleepingPredictor()(loaded), writer).to_pylist()[0]
        spent = time.process_time() - between
        manifest = (folder / "out" / summary["manifest_part"]).stat().st_size
        print(f"load {1000 * (between - started) / images:.1f} ms, compose and write {1000 * spent / images:.1f} ms")
        print(f"{summary['bytes_in'] / images:.0f} bytes in, {summary['bytes_out'] / images:.0f} bytes out")
        print(f"{loaded.nbytes / images:.0f} bytes between the stages, {manifest / images:.0f} in the manifest,")
        print(f"{source.units.nbytes / images:.0f} on the driver")


@contextmanager
def simulated_cluster(nodes: int, seconds: float) -> Any:
    """The address of a cluster on this machine, stopped at the end."""
    from ray.cluster_utils import Cluster

    os.environ |= {SECONDS: str(seconds), **QUIET}
    node: dict[str, Any] = {"num_cpus": CPUS, "num_gpus": GPUS, "object_store_memory": 200 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            cluster.add_node(**node)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


def _start(folder: Path, settings: dict[str, Any], address: str | None) -> dict[str, Any]:
    """Runs the job in its own process, whose memory is the driver's; returns its `run.json`."""
    request = json.dumps({"folder": str(folder), "settings": settings, "address": address})
    subprocess.run([sys.executable, "-m", "benchmarks.scale", "job", request], check=True)
    report: dict[str, Any] = json.loads((folder / "out/_colorize/run.json").read_text())
    return report


def _finished(output: Path) -> list[float]:
    from colorize.bulk.ledger.newest import read_manifest
    from colorize.storage.root import Storage

    rows = read_manifest(Storage(output))
    assert set(rows["status"].to_pylist()) == {"ok"}
    times: list[float] = rows["finished"].to_pylist()
    return times


@app.command(hidden=True)
def job(request: str) -> None:
    """The bulk job with the stand-in predictor."""
    from colorize.bulk.job import run_bulk
    from colorize.bulk.settings import BulkJob, BulkSettings

    asked = json.loads(request)
    folder, settings = Path(asked["folder"]), BulkSettings.model_validate(asked["settings"])
    with patch("colorize.bulk.pipeline.Predictor", SleepingPredictor):
        run_bulk(BulkJob(str(folder / "scans"), str(folder / "out"), ray_address=asked["address"], settings=settings))
    (folder / "cpu").write_text(str(time.process_time()))


if __name__ == "__main__":
    os.environ.pop("RAY_ADDRESS", None)
    app(sys.argv[1:] if sys.argv[1:2] == ["job"] else ["main", *sys.argv[1:]])
