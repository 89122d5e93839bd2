"""Statistics and samples of a bulk run for its report, collected from the manifest in one pass.

Counts include all rows. Images and paths are samples of fixed size, so memory and the page's size do not grow with the
number of inputs.
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
from colorize.bulk.ledger.newest import newest_tables
from colorize.storage.root import Storage

COLUMNS = ("path", "output", "status", "error", "message", "format", "width", "height", "frames", "bytes_in",
           "bytes_out", "triage", "luma_exact", "confidence", "finished")  # fmt: skip
RANDOM, LEAST_CONFIDENT, EXTREME = 12, 12, 6  # images per gallery
NAMED = 12  # paths listed per reason
REASONS, OTHER = 100, "other reasons"  # maximum number of reasons, and the name of the rest
LONGEST = 4096  # maximum characters shown of a name or message
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
        """Adds the rows of a table; rows with a key of -inf are ignored."""
        best = np.argsort(-keys, kind="stable")[: self.size]
        fresh = [(float(keys[i]), table.slice(int(i), 1).to_pylist()[0]) for i in best if keys[i] > -np.inf]
        self.rows = sorted(self.rows + fresh, key=lambda item: -item[0])[: self.size]

    def best(self) -> list[Row]:
        """The rows, without their keys."""
        return [row for _, row in self.rows]


@dataclass
class Reason:
    """The rows with one reason: their number, and the first few."""

    count: int = 0
    rows: list[Row] = field(default_factory=list)

    def add(self, table: pa.Table) -> None:
        self.count += table.num_rows
        self.rows += table.slice(0, NAMED - len(self.rows)).to_pylist()


@dataclass
class ManifestStats:
    """Statistics and samples of a manifest, collected table by table."""

    started: float  # Unix time: start of the run for which throughput is measured
    ended: float
    states: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    bytes_in: int = 0
    bytes_out: int = 0
    luma_exact: int = 0
    done_by_time: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(TIME_BINS, np.int64))
    random: Top = field(default_factory=lambda: Top(RANDOM + EXTREME + LEAST_CONFIDENT))
    uncertain: Top = field(default_factory=lambda: Top(LEAST_CONFIDENT))
    extreme: Top = field(default_factory=lambda: Top(EXTREME + LEAST_CONFIDENT))
    failures: dict[str, Reason] = field(default_factory=dict)
    skipped: dict[str, Reason] = field(default_factory=dict)
    to_check: dict[str, Reason] = field(default_factory=dict)  # ok, but worth a look
    chance: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def add(self, table: pa.Table) -> None:
        """Adds rows with the columns `COLUMNS`."""
        self.states.update(table["status"].to_pylist())
        self.bytes_in += pc.sum(table["bytes_in"]).as_py() or 0
        self.bytes_out += pc.sum(table["bytes_out"]).as_py() or 0
        span = (self.started, max(self.ended, self.started + 1e-3))
        self.done_by_time += np.histogram(table["finished"].to_numpy(), TIME_BINS, span)[0]
        for status, reasons in (("failed", self.failures), ("skipped", self.skipped)):
            _by_error(table.filter(pc.equal(table["status"], status)), reasons)
        self._add_colored(table.filter(pc.equal(table["status"], "ok")))

    def shown(self) -> tuple[list[Row], list[Row], list[Row]]:
        """The rows of the three galleries, without duplicates: lowest confidence, extreme aspect ratios, random."""
        uncertain = self.uncertain.best()
        extreme = _others(self.extreme, uncertain)[:EXTREME]
        return uncertain, extreme, _others(self.random, [*uncertain, *extreme])[:RANDOM]

    def _add_colored(self, table: pa.Table) -> None:
        if not table.num_rows:
            return
        self.formats.update(table["format"].to_pylist())
        self.luma_exact += pc.sum(table["luma_exact"]).as_py() or 0
        confidence, aspect = table["confidence"].to_numpy(), _aspect(table)
        self.random.add(table, self.chance.random(table.num_rows))
        self.uncertain.add(table, np.where(confidence > 0, -confidence, -np.inf))
        self.extreme.add(table, np.where(aspect >= LONG_ASPECT, aspect, -np.inf))
        short = np.minimum(table["width"].to_numpy(), table["height"].to_numpy())
        for reason, chosen in (
            ("the original colors were replaced", pc.equal(table["triage"], "color")),
            ("the luminance is not exact", pc.invert(table["luma_exact"])),
            ("only the first of several frames or pages was colored", _only_first(table)),
            (f"very small: a side below {SMALL_SIDE} pixels", pa.array(short < SMALL_SIDE)),
        ):
            matching = table.filter(chosen)
            if matching.num_rows:
                self.to_check.setdefault(reason, Reason()).add(matching)


def _only_first(table: pa.Table) -> pa.ChunkedArray:
    """Rows of files with several frames or pages, except those whose message says how many pages are colored."""
    return pc.and_not(pc.greater(table["frames"], 1), pc.match_substring(table["message"], PAGES_COLORED))


def collect_stats(storage: Storage, started: float, ended: float) -> ManifestStats:
    """Collects the statistics of an output's manifest, with the throughput between two Unix times."""
    stats = ManifestStats(started, ended)
    for table in newest_tables(storage, COLUMNS):
        stats.add(table)
    return stats


def failures(storage: Storage) -> Iterator[str]:
    """One line per failed input, of any run: path, error code and message."""
    for table in newest_tables(storage, ("path", "status", "error", "message")):
        failed = table.filter(pc.equal(table["status"], "failed")).select(("path", "error", "message"))
        yield from (f"{row['path']}: {row['error']}: {row['message']}" for row in failed.to_pylist())


def _others(top: Top, rows: Sequence[Row]) -> list[Row]:
    paths = {row["path"] for row in rows}
    return [row for row in top.best() if row["path"] not in paths]


def _by_error(table: pa.Table, reasons: dict[str, Reason]) -> None:
    codes = pc.unique(table["error"]).to_pylist()
    listed = [code for code in codes if code in reasons or len(code) <= LONGEST][:REASONS]
    listed = [code for code in listed if code in reasons or len(reasons) < REASONS]
    for code in listed:
        reasons.setdefault(code, Reason()).add(table.filter(pc.equal(table["error"], code)))
    rest = table.filter(pc.invert(pc.is_in(table["error"], value_set=pa.array(listed, pa.string()))))
    if rest.num_rows:
        reasons.setdefault(OTHER, Reason()).add(rest)


def clipped(text: str) -> str:
    """The text, truncated to LONGEST characters."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _aspect(table: pa.Table) -> Floats:
    width, height = (np.maximum(table[side].to_numpy(), 1).astype(np.float64) for side in ("width", "height"))
    ratio: Floats = np.maximum(width / height, height / width)
    return ratio
