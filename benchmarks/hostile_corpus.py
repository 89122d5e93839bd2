"""Malicious files through every command that reads images: does each keep its limits, and are valid images colored?

    python -m benchmarks.hostile_corpus --mutations 4 --seconds 20 --memory-mb 512 [--commands photo restore-grey ...]

The corpus (`hostile_files`) contains, for every image format and Parquet, damaged copies (bytes changed, removed or
repeated, huge lengths) and decompression bombs: files that claim, or would expand to, far more than their size. Valid
images lie beside them, as files and in archives. `lists` passes bombs to `bulk --input-list`, and `report` gets outputs
with untrusted images, manifests and `run.json`. Each command must process all valid images; report each other one in a
line or row; keep each of its processes below `limits.memory_mb` plus BASE_MB and each image below `limits.seconds` plus
SPARE_SECONDS; and execute no code from a file. Otherwise the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from benchmarks.hostile_files import Corpus, list_bombs, write_corpus, write_outputs

BASE_MB = 1200  # of a process without any image: Python, torch, the network, Ray, and a page of Parquet
SPARE_SECONDS = 5.0
ROOT = Path(__file__).parent.parent
STOPWATCH = Path(__file__).parent / "stopwatch"
DONE, FAILURES, REFUSED = 0, 3, 2  # exit statuses


@dataclass(frozen=True)
class Watched:
    """The result of a command: exit status, output, and peak resource use of its processes."""

    status: int
    lines: list[str]
    peak_mb: int
    longest: float  # the longest seconds of a process on one image
    seconds: float


@dataclass(frozen=True)
class Trial:
    """The inputs of the commands, and their limits."""

    folder: Path
    corpus: Corpus
    seconds: float
    memory_mb: int

    def run(self, command: str, *words: str) -> Watched:
        """Runs `colorize COMMAND` within the limits and monitors it."""
        bounds = ("--set", f"limits.seconds={self.seconds}", "--set", f"limits.memory_mb={self.memory_mb}")
        with tempfile.TemporaryDirectory(dir=self.folder) as notes:
            return watch([sys.executable, "-m", "colorize", command, *words, *bounds], Path(notes))

    def faults(self, done: Watched, *statuses: int) -> Iterator[str]:
        """The requirements that the command violated."""
        if done.peak_mb > self.memory_mb + BASE_MB:
            yield f"a process of {done.peak_mb} MB"
        if done.longest > self.seconds + SPARE_SECONDS:
            yield f"{done.longest:.0f} s on one image"
        if any("Traceback" in line for line in done.lines) or done.status not in statuses:
            yield f"status {done.status}: {done.lines[-1:]}"
        if self.marker.exists():
            self.marker.unlink()
            yield "code from a file was executed"

    @property
    def inputs(self) -> Path:
        """The corpus folder."""
        return self.folder / "in"

    @property
    def marker(self) -> Path:
        """The file that malicious code would create."""
        return self.folder / "marker"


def watch(words: list[str], notes: Path) -> Watched:
    """Runs a command and samples its processes ten times a second; each logs the start of its work in `notes`."""
    paths = (str(STOPWATCH), str(ROOT))
    environment = os.environ | {"STOPWATCH": str(notes), "PYTHONPATH": os.pathsep.join(paths)}
    started, peak, last_seen = time.monotonic(), 0, dict[int, float]()
    with tempfile.TemporaryFile("w+", errors="replace") as out:
        process = psutil.Popen(words, stdout=out, stderr=subprocess.STDOUT, env=environment)
        while process.poll() is None:
            for each in [process, *process.children(recursive=True)]:
                peak = max(peak, _resident(each))
                last_seen[each.pid] = time.monotonic()
            time.sleep(0.1)
        out.seek(0)
        lines = out.read().splitlines()
    longest = max((_longest(each, last_seen.get(int(each.name), 0.0)) for each in notes.iterdir()), default=0.0)
    return Watched(process.returncode, lines, peak >> 20, longest, time.monotonic() - started)


def _longest(notes: Path, last_seen: float) -> float:
    """The longest time between a start and its end, or the process's end."""
    longest, begun = 0.0, 0.0
    for line in notes.read_text().splitlines():
        at, sign = line.split()
        longest = max(longest, float(at) - begun if begun and sign == "-" else 0.0)
        begun = float(at) if sign == "+" else 0.0
    return max(longest, last_seen - begun if begun else 0.0)


def photo(trial: Trial) -> Iterator[tuple[Watched, list[str]]]:
    """Every file in one call."""
    here = [str(trial.inputs / name) for name in trial.corpus.names]
    done = trial.run("photo", *here, "-o", str(trial.folder / "photo"))
    yield done, [*trial.faults(done, FAILURES), *_unsaid(trial, done)]


def restore_grey(trial: Trial) -> Iterator[tuple[Watched, list[str]]]:
    """Every file in one call."""
    here = [str(trial.inputs / name) for name in trial.corpus.names]
    done = trial.run("restore-grey", *here, "-o", str(trial.folder / "grey"), "--force")
    yield done, [*trial.faults(done, FAILURES), *_unsaid(trial, done)]


def bulk(trial: Trial) -> Iterator[tuple[Watched, list[str]]]:
    """The whole folder."""
    out = trial.folder / "bulk"
    anyway = ("--set", "triage.color=color", "--set", "run.tolerate_failures=1")
    done = trial.run("bulk", "--input", str(trial.inputs), "--output", str(out), *anyway)
    found = list(trial.faults(done, DONE))
    if (out / "_colorize/manifest").exists():
        rows = pq.read_table(out / "_colorize/manifest", columns=["path", "status"]).to_pylist()
        found += _unaccounted(trial, {row["path"] for row in rows}, {r["path"] for r in rows if r["status"] == "ok"})
    yield done, found


def lists(trial: Trial) -> Iterator[tuple[Watched, list[str]]]:
    """Bombs as `--input-list`: each is refused."""
    for name, data in list_bombs().items():
        path = trial.folder / name
        path.write_bytes(data)
        words = ("--input", str(trial.inputs), "--output", str(trial.folder / "listed"), "--input-list", str(path))
        done = trial.run("bulk", *words)
        yield done, [f"{name}: {fault}" for fault in trial.faults(done, REFUSED)]


def evaluate(trial: Trial) -> Iterator[tuple[Watched, list[str]]]:
    """The whole folder; the first hundred corrupt images are named and all are counted."""
    out = trial.folder / "evaluation"
    anyway = ("--set", "run.tolerate_failures=1", "--set", "measure.features=false")
    done = trial.run(
        "evaluate", "--model", "default", "--data", str(trial.inputs), "--split", "all", "--output", str(out), *anyway
    )
    found = list(trial.faults(done, DONE))
    if (out / "metrics.json").exists():
        measured = set(pq.read_table(out / "per_image.parquet", columns=["path"])["path"].to_pylist())
        broken = json.loads((out / "metrics.json").read_text())["broken"]
        found += _missing("not done", trial.corpus.rows - measured)
        if (count := len(measured) + sum(broken.values())) < len(trial.corpus.names):
            found.append(f"{count} images accounted for, of {len(trial.corpus.names)} files")
    yield done, found


def report(trial: Trial) -> Iterator[tuple[Watched, list[str]]]:
    """The report of the bulk run, then of untrusted outputs."""
    own = trial.folder / "bulk"
    if own.exists():
        done = trial.run("report", str(own), "--input", str(trial.inputs))
        yield done, list(trial.faults(done, DONE))
    others = trial.folder / "outputs"
    for name, has_page in write_outputs(others, trial.marker).items():
        done = trial.run("report", str(others / name))
        found = [f"{name}: {fault}" for fault in trial.faults(done, *((DONE,) if has_page else (DONE, REFUSED)))]
        page = others / name / "_colorize/report.html"
        if has_page and b"data:image" not in (page.read_bytes() if page.exists() else b""):
            found.append(f"{name}: the good image is not shown")
        yield done, found


COMMANDS: dict[str, Callable[[Trial], Iterator[tuple[Watched, list[str]]]]] = {
    "photo": photo, "restore-grey": restore_grey, "lists": lists, "bulk": bulk, "evaluate": evaluate, "report": report,
}  # fmt: skip


def _unsaid(trial: Trial, done: Watched) -> list[str]:
    """Every name is in a line of the command's output; valid images were colored."""
    files = trial.corpus.good & trial.corpus.rows
    missing = {name for name in trial.corpus.names if not any(name in line for line in done.lines)}
    undone = {name for name in files if not any(name in line and " -> " in line for line in done.lines)}
    return _missing("nothing said of", missing) + _missing("not done", undone)


def _unaccounted(trial: Trial, rows: set[str], done: set[str]) -> list[str]:
    """Every file has a row, or its rows do; valid images were colored."""
    files = {row.rpartition("#")[0] or row for row in rows}
    return _missing("without a row", set(trial.corpus.names) - files) + _missing("not done", trial.corpus.rows - done)


def _missing(word: str, names: set[str] | frozenset[str]) -> list[str]:
    return [f"{word}: {sorted(names)[:3]}"] if names else []


def _resident(process: psutil.Process) -> int:
    try:
        memory = process.memory_info()
        return int(memory.rss - memory.shared)  # Ray's object store is mapped into each of its processes
    except psutil.Error:
        return 0


def main() -> int:
    """Generates the corpus, runs the commands on it and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=8, help="damaged copies of each format")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--memory-mb", type=int, default=512)
    parser.add_argument("--commands", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    asked = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="hostile-") as place:
        folder = Path(place)
        (folder / "in").mkdir()
        corpus = write_corpus(folder / "in", asked.mutations, folder / "marker")
        print(f"{len(corpus.good)} valid files, {len(corpus.bad)} malicious ones", flush=True)
        trial = Trial(folder, corpus, asked.seconds, asked.memory_mb)
        for name in asked.commands:
            runs = list(COMMANDS[name](trial))
            found = [fault for _, faults in runs for fault in faults]
            failed += bool(found)
            peak, longest = (max(getattr(done, each) for done, _ in runs) for each in ("peak_mb", "longest"))
            figures = f"{sum(done.seconds for done, _ in runs):6.1f} s, {peak:5d} MB, {longest:5.1f} s on one image"
            print(f"{name:12} {figures}: {'; '.join(found) or 'within its limits'}", flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
