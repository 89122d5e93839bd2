"""CPU time per image of `colorize bulk`, by kind of process, without start-up and end.

    python -m benchmarks.job_cpu --images 1200
    python -m benchmarks.job_cpu --images 100 --width 4000 --set pool.max=1

Runs the job over grey JPEGs (no two alike) as a user would, reads the CPU time of each of its processes twice a second,
and counts what was spent between 40 and 95 % of the outputs.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import psutil
import typer

from benchmarks.bulk_throughput import job_command, make_scans

INTERVAL = 0.5  # seconds
FROM, TO = 0.40, 0.95  # of the outputs
KINDS = {  # by a part of the command line
    "ray::": "Ray's actors and agents",
    "gcs_server": "Ray's servers",
    "raylet": "Ray's servers",
    "colorize bulk": "driver",
}
STAGES = {"Predictor": "predictor", "(load)": "load and write", "(write)": "load and write", "IDLE": "load and write"}


@dataclass
class Usage:
    """The readings of one process: its kinds by frequency, and CPU seconds by number of outputs."""

    kinds: Counter[str] = field(default_factory=Counter)
    seconds: list[tuple[int, float]] = field(default_factory=list)

    def between(self, first: int, last: int) -> float:
        """CPU seconds spent between two numbers of outputs."""
        before = [seconds for outputs, seconds in self.seconds if outputs <= first]
        until = [seconds for outputs, seconds in self.seconds if outputs <= last]
        return max(until, default=0.0) - max(before, default=0.0)


def main(
    images: Annotated[int, typer.Option(help="number of images")] = 1200,
    width: Annotated[int, typer.Option(help="width of an image in pixels; 1152 is 1 megapixel, 4000 is 12")] = 1152,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="settings of the job")] = None,
) -> None:
    """Runs the benchmark and prints the results."""
    with tempfile.TemporaryDirectory() as folder:
        scans, colored = Path(folder, "scans"), Path(folder, "colored")
        make_scans(scans, images, width)
        command = job_command(scans, colored, overrides or [])
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as job:
            usage, moments = watch(job, colored)
    inside = [(at, outputs) for at, outputs in moments if FROM * images <= outputs <= TO * images]
    (start, first), (end, last) = inside[0], inside[-1]
    print_table(usage, first, last, end - start)


def watch(job: subprocess.Popen[bytes], colored: Path) -> tuple[dict[int, Usage], list[tuple[float, int]]]:
    """The usage of each process until the job ends, and the number of outputs at each reading."""
    usage: defaultdict[int, Usage] = defaultdict(Usage)
    moments: list[tuple[float, int]] = []
    root = psutil.Process(job.pid)
    while job.poll() is None:
        outputs = sum(1 for _ in colored.glob("*.jpg"))
        moments.append((time.perf_counter(), outputs))
        with suppress(psutil.NoSuchProcess):
            for process in (root, *root.children(recursive=True)):
                with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    read(process, usage[process.pid], outputs)
        time.sleep(INTERVAL)
    return usage, moments


def read(process: psutil.Process, usage: Usage, outputs: int) -> None:
    """Adds a reading."""
    command, times = " ".join(process.cmdline()), process.cpu_times()
    named = (kind for part, kind in (STAGES | KINDS).items() if part in command)
    usage.kinds[next(named, "other")] += 1
    usage.seconds.append((outputs, times.user + times.system))


def print_table(usage: dict[int, Usage], first: int, last: int, seconds: float) -> None:
    """Prints the CPU time per image of each kind of process."""
    spent: defaultdict[str, float] = defaultdict(float)
    for process in usage.values():
        spent[process.kinds.most_common(1)[0][0]] += process.between(first, last)
    count = last - first
    print(f"images {first} to {last}: {count / seconds:.1f} images/s\n\n| process | CPU ms per image |\n| --- | ---: |")
    for kind, total in [*sorted(spent.items()), ("all", sum(spent.values()))]:
        print(f"| {kind} | {1000 * total / count:.1f} |")


if __name__ == "__main__":
    typer.run(main)
