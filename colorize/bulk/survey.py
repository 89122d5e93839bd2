"""What there is to say about a bulk run, gathered from its manifest in one pass and little memory.

Counts are of all rows; images to show and paths to name are samples of fixed size, so that the page of ten million
inputs is as small as that of a hundred.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from colorize.bulk.ledger.manifest import PAGES_COLORED
from colorize.bulk.ledger.newest import counting_tables
from colorize.storage.root import Storage

COLUMNS = ("path", "output", "status", "error", "message", "format", "width", "height", "frames", "bytes_in",
           "bytes_out", "triage", "luma_exact", "confidence", "finished")  # fmt: skip
RANDOM, UNSURE, EXTREME = 12, 12, 6  # images of each kind in the gallery
NAMED = 12  # paths that are named for each reason
REASONS, OTHER = 100, "other reasons"  # that are told apart
LONGEST = 4096  # characters of a name or message that are shown
TIME_BINS = 96
SMALL_SIDE, LONG_ASPECT = 64, 3.0

Row = dict[str, Any]
Floats = npt.NDArray[np.float64]


@dataclass
class Top:
    """The rows with the largest keys so far, largest first."""

    size: int
    rows: list[tuple[float, Row]] = field(default_factory=list)

    def add(self, table: pa.Table, keys: Floats) -> None:
        """Takes in the rows of a table; those with a key of -inf never count."""
        best = np.argsort(-keys, kind="stable")[: self.size]
        fresh = [(float(keys[i]), table.slice(int(i), 1).to_pylist()[0]) for i in best if keys[i] > -np.inf]
        self.rows = sorted(self.rows + fresh, key=lambda item: -item[0])[: self.size]

    def found(self) -> list[Row]:
        """The rows alone."""
        return [row for _, row in self.rows]


@dataclass
class Reason:
    """Rows that share a reason: how many, and the first few."""

    count: int = 0
    rows: list[Row] = field(default_factory=list)

    def add(self, table: pa.Table) -> None:
        self.count += table.num_rows
        self.rows += table.slice(0, NAMED - len(self.rows)).to_pylist()


@dataclass
class Survey:
    """What a manifest says, gathered table by table."""

    started: float  # Unix time of the run that the throughput is of
    ended: float
    states: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    bytes_in: int = 0
    bytes_out: int = 0
    luma_exact: int = 0
    done_by_time: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(TIME_BINS, np.int64))
    random: Top = field(default_factory=lambda: Top(RANDOM + EXTREME + UNSURE))
    unsure: Top = field(default_factory=lambda: Top(UNSURE))
    extreme: Top = field(default_factory=lambda: Top(EXTREME + UNSURE))
    failures: dict[str, Reason] = field(default_factory=dict)
    skipped: dict[str, Reason] = field(default_factory=dict)
    look: dict[str, Reason] = field(default_factory=dict)  # ok, and yet a person should look
    chance: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def add(self, table: pa.Table) -> None:
        """Takes in rows that have `COLUMNS`."""
        self.states.update(table["status"].to_pylist())
        self.bytes_in += pc.sum(table["bytes_in"]).as_py() or 0
        self.bytes_out += pc.sum(table["bytes_out"]).as_py() or 0
        span = (self.started, max(self.ended, self.started + 1e-3))
        self.done_by_time += np.histogram(table["finished"].to_numpy(), TIME_BINS, span)[0]
        for status, reasons in (("failed", self.failures), ("skipped", self.skipped)):
            _by_error(table.filter(pc.equal(table["status"], status)), reasons)
        self._add_colored(table.filter(pc.equal(table["status"], "ok")))

    def shown(self) -> tuple[list[Row], list[Row], list[Row]]:
        """The unsure, the extreme and the random rows to show: each in the first gallery that it belongs to."""
        unsure = self.unsure.found()
        extreme = _others(self.extreme, unsure)[:EXTREME]
        return unsure, extreme, _others(self.random, [*unsure, *extreme])[:RANDOM]

    def _add_colored(self, table: pa.Table) -> None:
        if not table.num_rows:
            return
        self.formats.update(table["format"].to_pylist())
        self.luma_exact += pc.sum(table["luma_exact"]).as_py() or 0
        confidence, aspect = table["confidence"].to_numpy(), _aspect(table)
        self.random.add(table, self.chance.random(table.num_rows))
        self.unsure.add(table, np.where(confidence > 0, -confidence, -np.inf))
        self.extreme.add(table, np.where(aspect >= LONG_ASPECT, aspect, -np.inf))
        short = np.minimum(table["width"].to_numpy(), table["height"].to_numpy())
        for reason, chosen in (
            ("had colors of its own, which were replaced", pc.equal(table["triage"], "color")),
            ("its luminance could not be carried over exactly", pc.invert(table["luma_exact"])),
            ("has several frames or pages, of which only the first was colored", _only_first(table)),
            (f"is very small: a side below {SMALL_SIDE} pixels", pa.array(short < SMALL_SIDE)),
        ):
            found = table.filter(chosen)
            if found.num_rows:
                self.look.setdefault(reason, Reason()).add(found)


def _only_first(table: pa.Table) -> pa.ChunkedArray:
    """Rows of files with more frames or pages than their copy: not those that say how many pages are colored."""
    return pc.and_not(pc.greater(table["frames"], 1), pc.match_substring(table["message"], PAGES_COLORED))


def survey(storage: Storage, started: float, ended: float) -> Survey:
    """The manifest below an output, gathered; throughput is of rows settled between two Unix times."""
    found = Survey(started, ended)
    for table in counting_tables(storage, COLUMNS):
        found.add(table)
    return found


def failures(storage: Storage) -> Iterator[str]:
    """A line for each input that failed, in whichever run: its path, the error's code and what is said of it."""
    for table in counting_tables(storage, ("path", "status", "error", "message")):
        failed = table.filter(pc.equal(table["status"], "failed")).select(("path", "error", "message"))
        yield from (f"{row['path']}: {row['error']}: {row['message']}" for row in failed.to_pylist())


def _others(top: Top, rows: Sequence[Row]) -> list[Row]:
    paths = {row["path"] for row in rows}
    return [row for row in top.found() if row["path"] not in paths]


def _by_error(table: pa.Table, reasons: dict[str, Reason]) -> None:
    codes = pc.unique(table["error"]).to_pylist()
    told = [code for code in codes if code in reasons or len(code) <= LONGEST][:REASONS]
    told = [code for code in told if code in reasons or len(reasons) < REASONS]
    for code in told:
        reasons.setdefault(code, Reason()).add(table.filter(pc.equal(table["error"], code)))
    rest = table.filter(pc.invert(pc.is_in(table["error"], value_set=pa.array(told, pa.string()))))
    if rest.num_rows:
        reasons.setdefault(OTHER, Reason()).add(rest)


def clipped(text: str) -> str:
    """The text, or its start."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _aspect(table: pa.Table) -> Floats:
    width, height = (np.maximum(table[side].to_numpy(), 1).astype(np.float64) for side in ("width", "height"))
    ratio: Floats = np.maximum(width / height, height / width)
    return ratio
