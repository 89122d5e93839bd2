"""The driver's cost of a job over very many inputs, before and after the images: time of each step, and memory.

    python -m benchmarks.many_keys 10000 100000 1000000 10000000

No images and no Ray: the bucket's listings (`made_up_bucket`) and the manifest's rows are generated. Each step runs in
its own process: the compaction of the parts that a run of this size leaves; planning from the listing; and a second
start (`colorize bulk`) that lists input and output, compares both with the manifest, and finds nothing to do. Memory
is the peak of the private memory (RssAnon) of the process and its children together, and of the largest of them alone;
mapped files are excluded, since the system can drop them. The CPU time of the server is printed separately.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count as count_up
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import typer
from psutil import Process

from benchmarks.made_up_bucket import BUCKET, IN, OUT, name_of, tag_of
from colorize.bulk.ledger.compaction import compact
from colorize.bulk.ledger.manifest import MANIFEST, MANIFEST_SCHEMA, write_rows
from colorize.bulk.settings import BulkJob, BulkSettings
from colorize.datasets.settings import SourceSettings
from colorize.datasets.sources import open_source
from colorize.predict.model_files import find_model
from colorize.storage.root import Storage

PART_ROWS = 262_144  # of a merged part: 512 tasks of 512 rows
ROWS_PER_FILE = 500_000
SAMPLE_SECONDS = 0.02
SAMPLES_A_LOOK = 50  # for new processes

app = typer.Typer()


@app.command()
def main(counts: list[int]) -> None:
    """Runs the benchmark and prints the results."""
    for count in counts:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_parts(folder / OUT, count)
            _print(count, "compact", _measured("compact", count, folder))
            with made_up_bucket(count, folder) as server:
                for step in ("plan", "again"):
                    before = _cpu_seconds(server)
                    _print(count, step, _measured(step, count, folder))
                    print(f"{'':>12}{_cpu_seconds(server) - before:.1f} s CPU of the server", flush=True)


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _print(count: int, step: str, found: dict[str, float]) -> None:
    print(
        f"{count:>11,} {step:>8}: {found['wall']:7.1f} s, {found['cpu']:7.1f} s CPU, "
        f"{1e6 * found['cpu'] / count:7.1f} us each, {found['before']:.0f} -> {found['peak']:.0f} MB, "
        f"of one process {found['own']:.0f} MB",
        flush=True,
    )


def _measured(step: str, count: int, folder: Path) -> dict[str, float]:
    words = [sys.executable, "-m", "benchmarks.many_keys", "step", step, str(count), str(folder)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@app.command(hidden=True)
def step(name: str, count: int, folder: Path) -> None:
    """One step, in this process."""
    model = find_model("default")
    before, peak = anonymous_mb(os.getpid()), [0.0, 0.0]
    threading.Thread(target=_watch, args=(peak,), daemon=True).start()
    started, cpu = time.perf_counter(), _own_cpu_seconds()
    if name == "plan":
        assert open_source(f"s3://{BUCKET}/{IN}", SourceSettings()).total == count
    elif name == "compact":
        found = compact(Storage(folder / OUT), 1, ROWS_PER_FILE)
        assert found.states.total() == count
    else:
        start_again(count)
    wall, cpu = time.perf_counter() - started, _own_cpu_seconds() - cpu
    del model
    print(json.dumps({"wall": wall, "cpu": cpu, "before": before, "peak": peak[0], "own": peak[1]}))


def _own_cpu_seconds() -> float:
    """CPU seconds of this process and of its finished children."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def start_again(count: int) -> None:
    """Runs `colorize bulk` over completed inputs."""
    from colorize.bulk.job import run_bulk

    job = BulkJob(f"s3://{BUCKET}/{IN}", f"s3://{BUCKET}/{OUT}", settings=BulkSettings())
    assert run_bulk(job).totals.earlier_total == count


def write_parts(folder: Path, count: int) -> None:
    """The rows of a run that has completed all images but has not compacted its manifest."""
    model, settings = find_model("default"), BulkSettings().pixels_digest()
    chance = np.random.default_rng(0)
    for number, start in enumerate(range(0, count, PART_ROWS)):
        rows = _rows(range(start, min(start + PART_ROWS, count)), model.sha256, settings, chance)
        write_rows(Storage(folder), f"{MANIFEST}/part-000001-{number:024x}.parquet", rows)


def _rows(numbers: range, model_sha256: str, settings_sha256: str, chance: np.random.Generator) -> pa.Table:
    names = [name_of(number) for number in numbers]
    sizes = [40_000 + number % 1000 for number in numbers]
    said: dict[str, Any] = {
        "path": names, "output": names, "bytes_in": sizes, "bytes_out": sizes,
        "sha256_in": _hashes(len(numbers), chance), "sha256_out": _hashes(len(numbers), chance),
        "identity": [tag_of(number) for number in numbers],
        "seconds": chance.random(len(numbers)), "confidence": chance.random(len(numbers)),
        "finished": 1.7e9 + np.round(chance.random(len(numbers)), 3),
    }  # fmt: skip
    same: dict[str, Any] = {
        "status": "ok", "format": "JPEG", "mode": "L", "width": 1152, "height": 864, "frames": 1, "triage": "grey",
        "model": "default", "model_sha256": model_sha256, "settings_sha256": settings_sha256, "luma_exact": True,
        "run": 1,
    }  # fmt: skip
    columns = []
    for field in MANIFEST_SCHEMA:
        value = said.get(field.name)
        if value is None:
            value = pa.repeat(pa.scalar(same.get(field.name, ""), field.type), len(numbers))
        columns.append(pa.array(value, field.type))
    return pa.Table.from_arrays(columns, schema=MANIFEST_SCHEMA)


def _hashes(count: int, chance: np.random.Generator) -> list[str]:
    text = chance.bytes(32 * count).hex()
    return [text[start : start + 64] for start in range(0, len(text), 64)]


@contextmanager
def made_up_bucket(count: int, folder: Path) -> Iterator[int]:
    """The server's process id; its clients' environment is set."""
    words = [sys.executable, "-m", "benchmarks.made_up_bucket", str(count), str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        os.environ |= {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
        try:
            yield server.pid
        finally:
            server.terminate()


def anonymous_mb(process: int) -> float:
    """The private memory of a process."""
    with suppress(OSError):  # it has ended
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) / 1024
    return 0


def _watch(peak: list[float]) -> None:
    for turn in count_up():
        if turn % SAMPLES_A_LOOK == 0:
            own = [process.pid for process in (Process(), *Process().children())]
        sizes = [anonymous_mb(process) for process in own]
        peak[:] = max(peak[0], sum(sizes)), max(peak[1], *sizes)
        time.sleep(SAMPLE_SECONDS)


if __name__ == "__main__":
    app(sys.argv[1:] if sys.argv[1:2] == ["step"] else ["main", *sys.argv[1:]])
