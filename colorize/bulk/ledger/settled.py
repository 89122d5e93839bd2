"""Which planned inputs earlier runs have settled: the manifest compared with the source and the output.

Pure comparison of tables, a few hundred thousand manifest rows at a time, so that a large manifest can be compared
in as many tasks as there are pieces of it. Nothing here knows Ray.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from colorize.bulk.settings import TriageSettings
from colorize.datasets.hints import NO_HINTS, Hints
from colorize.datasets.sources import Source
from colorize.imaging.formats import ADDED_SUFFIX, BYTE_LIMIT, sha256
from colorize.imaging.settings import SizeLimits
from colorize.storage.root import LEDGER, Storage
from colorize.storage.rooted import TEMPORARY_PREFIX

COLUMNS = ("path", "output", "status", "error", "message", "width", "height", "bytes_in", "bytes_out", "sha256_in",
           "sha256_out", "identity", "triage", "model_sha256", "settings_sha256", "run")  # fmt: skip
OUTPUTS_SCHEMA = pa.schema([("name", pa.string()), ("size", pa.int64())])
LISTING_ROWS = 10_000
TO_DO = -1  # in an array of outcomes: no row of an earlier run holds

Outcome = tuple[str, str]  # status and error code


@dataclass(frozen=True)
class Terms:
    """Under which an earlier row still holds: made by the same model with the same settings, and not to be retried."""

    model_sha256: str
    settings_sha256: str
    retry_failed: bool = False
    hints: Hints = NO_HINTS  # which pictures have settings of their own
    limits: SizeLimits = field(default_factory=SizeLimits)
    triage: TriageSettings = field(default_factory=TriageSettings)
    by_content: bool = False  # compare the hashes of sources and outputs instead of times and sizes


@dataclass(frozen=True)
class Inputs:
    """The planned inputs of a source, numbered in the order of its units."""

    source: Source

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """The number of each unit's first input, and the number of all inputs."""
        counts = self.source.units["count"].to_numpy()
        return np.concatenate(([0], np.cumsum(counts))).astype(np.int64)

    @property
    def total(self) -> int:
        return int(self.starts[-1])

    def locate(self, paths: pa.Array) -> tuple[NDArray[np.int64], list[str]]:
        """The number of each path's input, -1 for none; and the paths that spoke of archives as they were before."""
        if self.source.parts is None:
            return _positions(paths, self.source.units["name"]), []
        return self._locate_rows(paths)

    def unit_of(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The index of the unit that holds each input."""
        unit: NDArray[np.int64] = np.searchsorted(self.starts, numbers, side="right") - 1
        return unit

    def _locate_rows(self, paths: pa.Array) -> tuple[NDArray[np.int64], list[str]]:
        """Paths `ARCHIVE#ROW`, or `ARCHIVE` alone where it could not be opened."""
        names = self.source.units["name"]
        whole, alone = _positions(paths, names), self.source.units["row_group"].to_numpy() < 0  # files, broken archives
        split = pc.extract_regex(paths, r"^(?P<name>.*)#(?P<row>[0-9]{1,15})$")
        unit = _positions(pc.struct_field(split, "name"), names)
        row = pc.fill_null(pc.struct_field(split, "row").cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
        rows_of = np.bincount(_positions(_flat(names), names), self.source.units["count"].to_numpy())
        inside = (whole < 0) & (unit >= 0) & (row >= 0) & ~alone[unit] & (row < rows_of[unit])
        number = np.where(
            inside, self.starts[unit] + row, np.where((whole >= 0) & alone[whole], self.starts[whole], -1)
        )
        stale = (number < 0) & ((whole >= 0) | (unit >= 0))
        return number, paths.filter(pa.array(stale)).to_pylist()


@dataclass(frozen=True)
class Matches:
    """What one piece of the manifest says: for each row that speaks of an input, which, when, and its outcome."""

    numbers: NDArray[np.int64]
    runs: NDArray[np.int64]
    outcomes: list[Outcome | None]  # None: the row does not hold any more
    stale: list[str]  # paths whose rows speak of an archive as it was before


@dataclass
class Settled:
    """For each input the outcome that an earlier run's newest row gives it, as an index into `kinds`, or TO_DO."""

    total: int
    kinds: list[Outcome] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.outcomes = np.full(self.total, TO_DO, np.int32)
        self._runs = np.full(self.total, -1, np.int64)

    def add(self, found: Matches) -> None:
        """Takes in the matches of one piece; of two rows for one input the newer run's counts."""
        index = {kind: position for position, kind in enumerate(self.kinds)}
        for kind in dict.fromkeys(found.outcomes):
            if kind is not None and kind not in index:
                index[kind] = len(self.kinds)
                self.kinds.append(kind)
        codes = np.array([TO_DO if kind is None else index[kind] for kind in found.outcomes], np.int32)
        order = np.argsort(found.runs, kind="stable")  # where numbers repeat the last assignment stays
        numbers, runs, codes = found.numbers[order], found.runs[order], codes[order]
        newer = runs >= self._runs[numbers]
        self._runs[numbers[newer]] = runs[newer]
        self.outcomes[numbers[newer]] = codes[newer]
        self.stale += found.stale

    @property
    def done(self) -> NDArray[np.bool_]:
        """Which inputs need no work."""
        return np.not_equal(self.outcomes, TO_DO)

    def counts(self) -> Iterator[tuple[Outcome, int]]:
        """How many inputs ended in which way."""
        for code, kind in enumerate(self.kinds):
            if count := int((self.outcomes == code).sum()):
                yield kind, count


def list_outputs(target: Storage) -> tuple[pa.Table, list[str]]:
    """The files that lie in an output (OUTPUTS_SCHEMA), and the names of those that a killed process left half done."""
    tables, names, sizes = [OUTPUTS_SCHEMA.empty_table()], [], []
    leftovers = []
    for entry in target.entries():
        if entry.name.rpartition("/")[2].startswith(TEMPORARY_PREFIX):
            leftovers.append(entry.name)
        elif not entry.name.startswith(f"{LEDGER}/"):
            names.append(entry.name)
            sizes.append(entry.size)
        if len(names) == LISTING_ROWS:
            tables.append(pa.table([names, sizes], schema=OUTPUTS_SCHEMA))
            names, sizes = [], []
    return pa.concat_tables([*tables, pa.table([names, sizes], schema=OUTPUTS_SCHEMA)]), leftovers


def compare(rows: pa.Table, inputs: Inputs, outputs: pa.Table, target: Storage, terms: Terms) -> Matches:
    """Which inputs these manifest rows (COLUMNS) settle.

    A row holds if model, settings and source are unchanged and, where it is `ok`, its output is there.
    """
    rows = rows.combine_chunks()
    numbers, stale = inputs.locate(_flat(rows["path"]))
    known = numbers >= 0
    rows, numbers = rows.filter(pa.array(known)), numbers[known]
    units = _take(inputs.source.units, inputs.unit_of(numbers))
    holds = _same_origin(rows, units, terms) & _outcome_holds(rows, units, inputs.source, outputs, terms)
    holds &= _within_limits_still(rows, terms.limits) & _triaged_alike(rows, terms.triage)
    if terms.by_content:
        holds &= _same_content(rows, holds, inputs, numbers, target)
    states = zip(holds, rows["status"].to_pylist(), rows["error"].to_pylist(), strict=True)
    return Matches(numbers, rows["run"].to_numpy(), [(s, e) if hold else None for hold, s, e in states], stale)


def _same_origin(rows: pa.Table, units: pa.Table, terms: Terms) -> NDArray[np.bool_]:
    settings: Any = terms.settings_sha256
    if terms.hints.of:
        settings = pa.array([terms.hints.digest(path, settings) for path in rows["path"].to_pylist()])
    same = pc.and_(pc.equal(rows["model_sha256"], terms.model_sha256), pc.equal(rows["settings_sha256"], settings))
    if not terms.by_content:  # an input list may know nothing of its files, and then says nothing against them
        unchanged = pc.or_(pc.equal(units["identity"], ""), pc.equal(units["identity"], rows["identity"]))
        same = pc.and_(same, unchanged)
    return _mask(same)


def _outcome_holds(
    rows: pa.Table, units: pa.Table, source: Source, outputs: pa.Table, terms: Terms
) -> NDArray[np.bool_]:
    status = rows["status"].to_numpy(zero_copy_only=False)
    there = _output_is_there(rows, units, outputs) | (units["row_group"].to_numpy() >= 0)  # an archive's come later
    holds = {
        "ok": there,
        "failed": np.full(len(status), not terms.retry_failed),
        "skipped": _still_skipped(rows, units, source.storage)
        & (there | _mask(pc.equal(rows["output"], ""))),  # or copied as it is
    }
    return np.select([status == kind for kind in holds], list(holds.values()), False)


def _within_limits_still(rows: pa.Table, limits: SizeLimits) -> NDArray[np.bool_]:
    """What was refused for its size would be again, and what was not would not; where no size is known nobody knows."""
    width, height, size = (rows[name].to_numpy() for name in ("width", "height", "bytes_in"))
    few = size <= limits.max_bytes
    within = few & (width * height <= limits.max_pixels) & (np.minimum(width, height) >= limits.min_side)
    refused = _mask(pc.is_in(rows["error"], value_set=pa.array(["too_large", "too_small"])))
    unread = refused & _mask(pc.match_substring(rows["message"], BYTE_LIMIT))  # so that nothing but its bytes is known
    held: NDArray[np.bool_] = np.where(unread, ~few, (within != refused) | (width == 0))
    return held


def _triaged_alike(rows: pa.Table, triage: TriageSettings) -> NDArray[np.bool_]:
    """The policy for the kind of each picture is still the one that was followed; a failure's is not asked."""
    followed = pc.if_else(
        pc.equal(rows["status"], "ok"), "color", pc.if_else(pc.equal(rows["output"], ""), "skip", "copy")
    )
    policies: dict[str, str] = triage.model_dump()
    now = [policies.get(kind, own) for kind, own in zip(rows["triage"].to_pylist(), followed.to_pylist(), strict=True)]
    return _mask(pc.or_(pc.equal(followed, pa.array(now, pa.string())), pc.equal(rows["status"], "failed")))


def _output_is_there(rows: pa.Table, units: pa.Table, outputs: pa.Table) -> NDArray[np.bool_]:
    found = _positions(_flat(rows["output"]), outputs["name"])
    size = outputs["size"].take(pa.array(found, mask=found < 0))
    renamed = pc.and_(
        units["name_taken"], pc.equal(rows["output"], pc.binary_join_element_wise(units["name"], ADDED_SUFFIX, ""))
    )
    return _mask(pc.and_(pc.equal(size, rows["bytes_out"]), pc.invert(renamed)))


def _still_skipped(rows: pa.Table, units: pa.Table, storage: Storage) -> NDArray[np.bool_]:
    """A name that was left out may be wanted now; other reasons lie in the picture or the settings."""
    columns = (rows["error"].to_pylist(), units["error"].to_pylist(), rows["path"].to_pylist())
    held = (
        was != "excluded" or now == was or storage.is_linked_folder(path)
        for was, now, path in zip(*columns, strict=True)
    )
    return np.fromiter(held, bool, rows.num_rows)


def _same_content(
    rows: pa.Table, holds: NDArray[np.bool_], inputs: Inputs, numbers: NDArray[np.int64], target: Storage
) -> NDArray[np.bool_]:
    """Reads the sources, and the outputs that are files, of rows that would hold, and compares their hashes."""
    good = np.ones(len(holds), bool)
    places = {path: index for index, path in enumerate(rows["path"].to_pylist()) if holds[index]}
    units = _take(inputs.source.units, np.unique(inputs.unit_of(numbers[holds])))
    expected = rows.select(["sha256_in", "output", "bytes_out", "sha256_out"]).to_pylist()
    most = inputs.source.reader.settings.inline_bytes
    for raw in (raw for raws in inputs.source.reader.fetch(units) for raw in raws):
        if (index := places.get(raw.path)) is None:
            continue
        row = expected[index]
        good[index] = not row["sha256_in"] or sha256(raw.data) == row["sha256_in"]
        if good[index] and row["sha256_out"] and not raw.part:
            good[index] = sha256(target.load(row["output"], row["bytes_out"], most, 1 << 62)) == row["sha256_out"]
    return good


def _positions(values: pa.Array, known: pa.ChunkedArray) -> NDArray[np.int64]:
    """The first index of each value among the known ones, -1 where it is not there.

    The values, which are few, are hashed and the known ones looked up, chunk by chunk: these may be gigabytes.
    """
    different = pc.unique(values).drop_null()
    first = np.full(len(different) + 1, -1, np.int64)  # the last is for nulls
    start = known.length()
    for chunk in reversed(known.chunks):
        start -= len(chunk)
        found = pc.index_in(chunk, value_set=different)
        at = np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False))[::-1]
        first[found.take(pa.array(at)).to_numpy()] = start + at  # where numbers repeat the last assignment stays
    of_values = pc.fill_null(pc.index_in(values, value_set=different), len(different))
    positions: NDArray[np.int64] = first[of_values.to_numpy(zero_copy_only=False)]
    return positions


def _take(table: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    """Some rows of a table in this order, batch by batch: `Table.take` would first join all chunks of a column."""
    order = np.argsort(rows, kind="stable")
    taken, start, done = [], 0, 0
    for batch in table.to_batches():
        start, stop = start + batch.num_rows, int(np.searchsorted(rows, start + batch.num_rows, sorter=order))
        if stop > done:
            taken.append(batch.take(pa.array(rows[order[done:stop]] - (start - batch.num_rows))))
            done = stop
    return pa.Table.from_batches(taken, table.schema).combine_chunks().take(pa.array(np.argsort(order)))


def _flat(column: Any) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _mask(values: Any) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), bool)
    return mask


def pieces(rows: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """The same rows in tables of about `size` rows: small parts gathered, large ones cut."""
    held: list[pa.Table] = []
    for table in rows:
        for start in range(0, table.num_rows, size):
            held.append(table.slice(start, size))
            if sum(piece.num_rows for piece in held) >= size:
                yield pa.concat_tables(held)
                held = []
    if held:
        yield pa.concat_tables(held)
