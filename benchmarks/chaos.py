"""Kills parts of a bulk job at random, resumes it, and compares the output with that of an undisturbed run.

    python -m benchmarks.chaos --images 2000 --restarts 5
    python -m benchmarks.chaos --images 2000 --restarts 5 --faulty

Colors photographs on a local cluster of three nodes while killing workers, actors, a whole node and, until the
restarts are used up, the driver; then runs the job to its end. With `--faulty` source and output are in SeaweedFS
behind a proxy that refuses 5 % of the requests and truncates 5 % of the responses. At the end each input must have one
row, each output must equal that of the undisturbed run byte for byte, and the output must contain no other files.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from benchmarks.photographs import write_photographs
from colorize.bulk.ledger.newest import read_manifest
from colorize.storage.root import Storage

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
STRIKES = 6  # per start of the driver
SPARED = ("IDLE", "Agent")  # idle, or part of the node, with which it dies
NODE: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 300 << 20}


@dataclass
class Chaos:
    """A cluster of several nodes whose parts can be killed."""

    nodes: int = 3
    seed: int = 0
    killed: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.random = random.Random(self.seed)
        self.cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        self.extra: list[Any] = [self.cluster.add_node(**NODE) for _ in range(self.nodes - 1)]
        self.cluster.wait_for_nodes()

    def strike(self) -> None:
        """Kills a worker, an actor or, rarely, a node, which is then replaced."""
        if self.extra and self.random.random() < 0.15:
            self.cluster.remove_node(self.extra.pop(), allow_graceful=False)
            self.extra.append(self.cluster.add_node(**NODE))
            self.killed["nodes"] += 1
        elif victims := list(self.workers()):
            victim, kind = self.random.choice(victims)
            victim.kill()
            self.killed[kind] += 1

    def workers(self) -> Iterator[tuple[psutil.Process, str]]:
        """The processes that do the job's work, by kind."""
        for node in self.cluster.list_all_nodes():
            raylet = node.all_processes["raylet"][0].process.pid
            for process in psutil.Process(raylet).children():
                try:
                    name = " ".join(process.cmdline())
                except psutil.Error:
                    continue
                if name.startswith("ray::") and not any(word in name for word in SPARED):
                    yield process, "actors" if "Worker" in name or "Actor" in name else "workers"

    def shutdown(self) -> None:
        """Stops the cluster's processes only."""
        self.cluster.shutdown()


def disturbed_run(command: list[str], chaos: Chaos, restarts: int, log: Path, pace: tuple[float, float]) -> list[str]:
    """Runs the command until it succeeds, killing parts meanwhile; returns how each start ended."""
    ends: list[str] = []
    while True:
        started, life = time.monotonic(), chaos.random.uniform(6 * pace[0], 6 * pace[1])
        mortal, strikes = ends.count("killed") < restarts, 0
        with log.open("ab") as file:
            process = subprocess.Popen([*command, "--ray", chaos.cluster.address], stdout=file, stderr=file)
            while process.poll() is None:
                time.sleep(chaos.random.uniform(*pace))
                if mortal and time.monotonic() - started > life:
                    process.kill()
                    process.wait()
                    chaos.killed["drivers"] += 1
                elif strikes < STRIKES:  # without a limit a slow machine would never load the network
                    chaos.strike()
                    strikes += 1
        ends.append("killed" if process.returncode == -9 else f"status {process.returncode}")
        if process.returncode == 0:
            return ends
        if len(ends) > 4 * restarts + 4:
            raise RuntimeError(f"no success in {len(ends)} starts: {ends}; see {log}")


def differences(calm: Storage, disturbed: Storage, inputs: set[str]) -> list[str]:
    """Differences between the disturbed output and the expected one; empty if there are none."""
    rows = read_manifest(disturbed).to_pylist()
    problems = [f"{len(rows)} rows for {len(inputs)} inputs"] if len(rows) != len(inputs) else []
    problems += [f"no row for {name}" for name in inputs - {row["path"] for row in rows}]
    problems += [f"{row['path']}: {row['status']} {row['error']}" for row in rows if row["status"] != "ok"]
    expected, found = contents(calm), contents(disturbed)
    problems += [f"{name}: only in one output" for name in expected.keys() ^ found.keys()]
    problems += [f"{name}: other bytes" for name in expected.keys() & found.keys() if expected[name] != found[name]]
    return problems


def contents(output: Storage) -> dict[str, str]:
    """The hash of every file in an output except the run's own."""
    names = [entry.name for entry in output.entries() if not entry.name.startswith("_colorize/")]
    return {name: hashlib.sha256(output.read(name)).hexdigest() for name in names}


def bulk(source: str, target: str, *options: str) -> list[str]:
    """The command line of a bulk job."""
    words = [sys.executable, "-m", "colorize", "bulk", "--input", source, "--output", target]
    return [*words, "--set", "run.start_seconds=60", *options]


@contextmanager
def faulty_bucket(folder: Path) -> Iterator[str]:
    """An empty prefix of a SeaweedFS bucket, behind the faulty proxy for all processes started inside the block."""
    from tests.conftest import free_ports, s3_server
    from tests.faulty_proxy import FaultyProxy, running

    with s3_server(folder / "s3") as server:
        proxy = FaultyProxy(server.endpoint, refuse=0.05, cut=0.05, delay=0.02)
        with running(proxy, free_ports(1)[0]) as endpoint:
            os.environ["AWS_ENDPOINT_URL"] = endpoint
            yield "s3://scans"
            print(f"proxy: {dict(proxy.seen)}")


def main(
    images: Annotated[int, typer.Option(help="number of images")] = 2000,
    restarts: Annotated[int, typer.Option(help="number of times the driver is killed")] = 5,
    nodes: Annotated[int, typer.Option(help="nodes of the cluster")] = 3,
    seed: Annotated[int, typer.Option(help="random seed")] = 0,
    faulty: Annotated[bool, typer.Option("--faulty", help="buckets behind a faulty proxy instead of folders")] = False,
) -> None:
    """Runs both, compares, prints the result, and fails if anything differs."""
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        names = write_photographs(folder / "scans", images)
        subprocess.run(bulk(str(folder / "scans"), str(folder / "calm")), check=True)
        source, target = str(folder / "scans"), str(folder / "disturbed")
        if faulty:
            bucket = stack.enter_context(faulty_bucket(folder))
            source, target = f"{bucket}/in", f"{bucket}/out"
            for name in names:
                Storage(source).write(name, (folder / "scans" / name).read_bytes())
        chaos = Chaos(nodes, seed)
        stack.callback(chaos.shutdown)
        started = time.monotonic()
        ends = disturbed_run(bulk(source, target), chaos, restarts, folder / "log", (2.0, 6.0))
        print(f"{images} images, {nodes} nodes, {time.monotonic() - started:.0f} s; starts ended: {', '.join(ends)}")
        print(f"killed: {dict(chaos.killed)}")
        problems = differences(Storage(folder / "calm"), Storage(target), set(names))
        print("\n".join(problems[:20]) or "each input has one row, each output equals that of the undisturbed run")
        if problems:
            raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
