"""Finds the inputs that earlier runs have completed, by comparing the manifest with the source and the output.

Pure comparison of tables, groups of manifest rows and of planned inputs. Independent of Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from colorize.bulk.ledger.manifest import MANIFEST_SCHEMA
from colorize.bulk.ledger.presence import Presence
from colorize.bulk.settings import TriageSettings
from colorize.datasets.hints import NO_HINTS, Hints
from colorize.datasets.readers import UNIT_SCHEMA, Reader
from colorize.datasets.sources import Source
from colorize.imaging.formats import ADDED_SUFFIX, BYTE_LIMIT, sha256
from colorize.imaging.settings import SizeLimits
from colorize.storage.grouped import flat, mapped_array, positions
from colorize.storage.root import Storage

COLUMNS = ("path", "output", "status", "error", "message", "width", "height", "bytes_in", "bytes_out", "sha256_in",
           "sha256_out", "identity", "triage", "model_sha256", "settings_sha256", "run", "finished")  # fmt: skip
HASHES = ("bytes_out", "sha256_in", "sha256_out")  # only needed to compare contents
HASHED_ROWS = 1000  # images read and hashed per task
COUNTED = 1 << 18  # outcomes counted at a time
PENDING = -1  # in an array of outcomes: there is no valid row of an earlier run

Outcome = tuple[str, str]  # status and error code
Mask = NDArray[np.bool_]

ROW_SCHEMA = pa.schema(
    [
        *(MANIFEST_SCHEMA.field(name) for name in ("path", "output", "status", "error", "identity", "run", "finished")),
        ("number", pa.int64()),  # of the row in the whole manifest
        ("valid", pa.bool_()),  # as far as the row alone tells
        *(MANIFEST_SCHEMA.field(name) for name in HASHES),
    ]
)
PLANNED_SCHEMA = pa.schema(
    [*(UNIT_SCHEMA.field(name) for name in ("name", "identity", "name_taken", "error")), ("number", pa.int64())]
)


@dataclass(frozen=True)
class Criteria:
    """The conditions under which a row of an earlier run is still valid, such as the same model and settings."""

    model_sha256: str
    settings_sha256: str
    retry_failed: bool = False
    hints: Hints = NO_HINTS  # which images have settings of their own
    limits: SizeLimits = field(default_factory=SizeLimits)
    triage: TriageSettings = field(default_factory=TriageSettings)
    by_content: bool = False  # compare the hashes of sources and outputs instead of times and sizes

    @property
    def columns(self) -> tuple[str, ...]:
        """The manifest columns that are needed to validate rows."""
        return COLUMNS if self.by_content else tuple(name for name in COLUMNS if not name.startswith("sha256_"))


@dataclass(frozen=True)
class Inputs:
    """The planned inputs of a source, numbered in the order of its units: files first, then the rows of archives."""

    source: Source

    @cached_property
    def files(self) -> int:
        """Number of units that are files, which are one input each."""
        return self.source.files

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """The number of the first input of each archive unit, followed by the total number of inputs."""
        counts = self.source.units["count"].slice(self.files).to_numpy()
        return self.files + np.concatenate(([0], np.cumsum(counts))).astype(np.int64)

    @property
    def total(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def archives(self) -> pa.Table:
        """The archives (PLANNED_SCHEMA, with the number of the first row), and a column with their `rows`."""
        runs = self.source.units.slice(self.files).select(["name", "identity", "name_taken", "error", "count"])
        runs = runs.append_column("number", pa.array(self.starts[:-1]))
        firsts = [(name, "min") for name in PLANNED_SCHEMA.names[1:]]
        grouped = runs.group_by("name", use_threads=False).aggregate([*firsts, ("count", "sum")])
        return grouped.rename_columns([*PLANNED_SCHEMA.names, "rows"])

    def planned_files(self) -> Iterator[pa.Table]:
        """The files, in tables of PLANNED_SCHEMA."""
        first = 0
        for batch in self.source.units.slice(0, self.files).select(PLANNED_SCHEMA.names[:-1]).to_batches():
            numbers = pa.array(np.arange(first, first + batch.num_rows))
            yield pa.Table.from_batches([batch]).append_column("number", numbers)
            first += batch.num_rows

    def locate_rows(self, paths: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64], Mask]:
        """Resolves paths `ARCHIVE#ROW`.

        Returns:
            Indices of archives (-1 for none), numbers of inputs (-1 for none), and a mask of the paths, `ARCHIVE#ROW`
            or `ARCHIVE`, that refer to a former version of an existing archive.
        """
        split = pc.extract_regex(paths, r"^(?P<name>.*)#(?P<row>[0-9]{1,15})$")
        archive = positions(pc.struct_field(split, "name"), self.archives["name"])
        row = pc.fill_null(pc.struct_field(split, "row").cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
        rows, first = (np.append(self.archives[name].to_numpy(), 0) for name in ("rows", "number"))  # the last for none
        inside = (archive >= 0) & (row >= 0) & (row < rows[archive])
        known = pa.array(self.source.versions, pa.string())
        named = pc.or_(pc.is_in(paths, known), pc.is_in(pc.struct_field(split, "name"), known))
        number = np.where(inside, first[archive] + row, -1)
        return np.where(inside, archive, -1), number, ~inside & _mask(named)

    def units_of(self, numbers: NDArray[np.int64]) -> pa.Table:
        """The units of these inputs, without duplicates."""
        of_archive = self.files + np.searchsorted(self.starts, numbers, side="right") - 1
        return _take(self.source.units, np.unique(np.where(numbers < self.files, numbers, of_archive)))


@dataclass(frozen=True)
class Matches:
    """Manifest rows matched with inputs."""

    numbers: NDArray[np.int64]  # of the inputs
    outcomes: list[Outcome]  # distinct
    codes: NDArray[np.int64]  # for each row the index of its outcome, or PENDING if it is not valid
    stale: list[str]  # paths of rows that refer to a former version of an archive


@dataclass
class Completed:
    """The outcomes of inputs in earlier runs: for each input an index into `kinds`, or PENDING."""

    total: int
    kinds: list[Outcome] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.outcomes = mapped_array(self.total, np.int32, PENDING)
        self._index: dict[Outcome, int] = {}

    def add(self, found: Matches) -> None:
        """Adds matches, at most one per input."""
        for kind in found.outcomes:
            if kind not in self._index:
                self._index[kind] = len(self.kinds)
                self.kinds.append(kind)
        codes = np.array([*(self._index[kind] for kind in found.outcomes), PENDING], np.int32)
        self.outcomes[found.numbers] = codes[found.codes]
        self.stale += found.stale

    def done(self, start: int = 0, stop: int | None = None) -> Mask:
        """A mask of the completed inputs in a range."""
        found: Mask = np.not_equal(self.outcomes[start:stop], PENDING)
        return found

    def counts(self) -> Iterator[tuple[Outcome, int]]:
        """The number of inputs per outcome."""
        found = np.zeros(len(self.kinds) + 1, np.int64)
        for start in range(0, self.total, COUNTED):
            found += np.bincount(self.outcomes[start : start + COUNTED] - PENDING, minlength=len(found))
        return ((kind, count) for kind, count in zip(self.kinds, found[1:].tolist(), strict=True) if count)


@dataclass(frozen=True)
class Contents:
    """Images to be read and hashed: their manifest rows and units."""

    rows: pa.Table  # ROW_SCHEMA
    units: pa.Table
    reader: Reader
    target: Storage

    def are_same(self) -> Mask:
        """For each row, whether source and output have its hashes; the outputs of archives are not checked."""
        good = np.ones(self.rows.num_rows, bool)
        places = {path: index for index, path in enumerate(self.rows["path"].to_pylist())}
        expected = self.rows.select(["output", *HASHES]).to_pylist()
        most = self.reader.settings.inline_bytes
        for raw in (raw for raws in self.reader.fetch(self.units) for raw in raws):
            if (index := places.get(raw.path)) is None:
                continue
            row = expected[index]
            good[index] = not row["sha256_in"] or sha256(raw.data) == row["sha256_in"]
            if good[index] and row["sha256_out"] and not raw.part:
                copy = self.target.load(row["output"], row["bytes_out"], most, 1 << 62)
                good[index] = sha256(copy) == row["sha256_out"]
        return good


Verify = Callable[[Iterable[Contents]], Iterator[Mask]]


def verify_locally(contents: Iterable[Contents]) -> Iterator[Mask]:
    """Reads and hashes in this process."""
    return (each.are_same() for each in contents)


def validate_rows(rows: pa.Table, first: int, criteria: Criteria) -> pa.Table:
    """Converts manifest rows (`Criteria.columns`) to ROW_SCHEMA, numbered from `first`.

    `valid` is whether model, settings, limits and policy of the row are unchanged; `compare` checks source and output.
    """
    valid = _same_origin(rows, criteria) & _within_limits(rows, criteria.limits) & _same_policy(rows, criteria.triage)
    if criteria.retry_failed:
        valid &= _mask(pc.not_equal(rows["status"], "failed"))
    made = {"number": pa.array(np.arange(first, first + rows.num_rows)), "valid": pa.array(valid)}
    missing = {name: pa.nulls(rows.num_rows, pa.string()) for name in HASHES if name not in rows.column_names}
    columns = {name: rows[name] for name in rows.column_names} | made | missing
    return pa.Table.from_arrays([columns[name] for name in ROW_SCHEMA.names], schema=ROW_SCHEMA)


def compare(
    rows: pa.Table, planned: pa.Table, outputs: Presence, inputs: Inputs, target: Storage, criteria: Criteria,
    verify: Verify = verify_locally,
) -> Matches:  # fmt: skip
    """Matches the rows of a group with the inputs, and validates them.

    Args:
        rows: manifest rows (ROW_SCHEMA) with distinct paths.
        planned: the files of the group (PLANNED_SCHEMA).
        outputs: which outputs exist, for the whole manifest.
        inputs: all inputs.
        target: the output.
        criteria: for valid rows.
        verify: function that compares contents.
    """
    rows = rows.combine_chunks()
    paths = flat(rows["path"])
    position, stale = positions(paths, planned["name"]), []
    number = np.append(planned["number"].to_numpy(), -1)[position]
    if inputs.source.parts is not None:
        archive, of_row, outdated = inputs.locate_rows(paths)
        alone = position >= 0
        position = np.where(alone, position, np.where(archive >= 0, planned.num_rows + archive, -1))
        number = np.where(alone, number, of_row)
        stale = paths.filter(pa.array(outdated & ~alone)).to_pylist()
        planned = pa.concat_tables([planned, inputs.archives.select(PLANNED_SCHEMA.names)])
    known = number >= 0
    of_archive = pa.array(number[known] >= inputs.files)
    rows, units = rows.filter(pa.array(known)), planned.combine_chunks().take(pa.array(position[known]))
    number = number[known]
    there = outputs.of(rows["number"].to_numpy())
    arrived = _mask(of_archive) | (there & ~_renamed(rows, units))  # outputs of archives are checked later
    valid = rows["valid"].to_numpy() & _outcome_valid(rows, units, arrived, inputs.source.storage)
    if criteria.by_content:
        valid[valid] = _same_content(rows.filter(pa.array(valid)), number[valid], inputs, target, verify)
    else:  # an input list may have no identities, which then match
        valid &= _mask(pc.or_(pc.equal(units["identity"], ""), pc.equal(units["identity"], rows["identity"])))
    return Matches(number, *_outcomes(rows, valid), stale)


def _outcomes(rows: pa.Table, valid: Mask) -> tuple[list[Outcome], NDArray[np.int64]]:
    """The distinct outcomes, and the index of each row's outcome."""
    joined = pc.binary_join_element_wise(rows["status"], rows["error"], "\0").combine_chunks().dictionary_encode()
    kinds = [text.partition("\0") for text in joined.dictionary.to_pylist()]
    return [(status, error) for status, _, error in kinds], np.where(valid, joined.indices.to_numpy(), PENDING)


def _same_origin(rows: pa.Table, criteria: Criteria) -> Mask:
    settings: Any = criteria.settings_sha256
    if criteria.hints.of:
        settings = pa.array([criteria.hints.digest(path, settings) for path in rows["path"].to_pylist()])
    return _mask(
        pc.and_(pc.equal(rows["model_sha256"], criteria.model_sha256), pc.equal(rows["settings_sha256"], settings))
    )


def _outcome_valid(rows: pa.Table, units: pa.Table, there: Mask, storage: Storage) -> Mask:
    status = rows["status"].to_numpy(zero_copy_only=False)
    valid = {
        "ok": there,
        "failed": np.full(len(status), True),
        "skipped": _still_excluded(rows, units, storage)
        & (there | _mask(pc.equal(rows["output"], ""))),  # copied images have an output
    }
    return np.select([status == kind for kind in valid], list(valid.values()), False)


def _within_limits(rows: pa.Table, limits: SizeLimits) -> NDArray[np.bool_]:
    """Whether the size limits would have the same result again; true if the size is unknown."""
    width, height, size = (rows[name].to_numpy() for name in ("width", "height", "bytes_in"))
    few = size <= limits.max_bytes
    within = few & (width * height <= limits.max_pixels) & (np.minimum(width, height) >= limits.min_side)
    refused = _mask(pc.is_in(rows["error"], value_set=pa.array(["too_large", "too_small"])))
    unread = refused & _mask(pc.match_substring(rows["message"], BYTE_LIMIT))  # only its number of bytes is known
    unchanged: NDArray[np.bool_] = np.where(unread, ~few, (within != refused) | (width == 0))
    return unchanged


def _same_policy(rows: pa.Table, triage: TriageSettings) -> NDArray[np.bool_]:
    """Whether each image's policy is still the one that was applied; true for failed rows."""
    followed = pc.if_else(
        pc.equal(rows["status"], "ok"), "color", pc.if_else(pc.equal(rows["output"], ""), "skip", "copy")
    )
    policies: dict[str, str] = triage.model_dump()
    now = [policies.get(kind, own) for kind, own in zip(rows["triage"].to_pylist(), followed.to_pylist(), strict=True)]
    return _mask(pc.or_(pc.equal(followed, pa.array(now, pa.string())), pc.equal(rows["status"], "failed")))


def _renamed(rows: pa.Table, units: pa.Table) -> Mask:
    """Whether an output would get another name now, because another input has its name."""
    added = pc.equal(rows["output"], pc.binary_join_element_wise(units["name"], ADDED_SUFFIX, ""))
    return _mask(pc.and_(units["name_taken"], added))


def _still_excluded(rows: pa.Table, units: pa.Table, storage: Storage) -> Mask:
    """Whether an excluded name is still excluded; true for rows skipped for other reasons."""
    excluded = _mask(pc.or_(pc.not_equal(rows["error"], "excluded"), pc.equal(units["error"], rows["error"])))
    for index in np.flatnonzero(~excluded).tolist():
        excluded[index] = storage.is_linked_folder(rows["path"][index].as_py())
    return excluded


def _same_content(rows: pa.Table, numbers: NDArray[np.int64], inputs: Inputs, target: Storage, verify: Verify) -> Mask:
    pieces = [slice(start, start + HASHED_ROWS) for start in range(0, rows.num_rows, HASHED_ROWS)]
    contents = (
        Contents(rows.slice(piece.start, HASHED_ROWS), inputs.units_of(numbers[piece]), inputs.source.reader, target)
        for piece in pieces
    )
    return np.concatenate([np.empty(0, bool), *verify(contents)])


def _take(table: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    """`Table.take` by batches; pyarrow's would first concatenate all chunks of a column."""
    order = np.argsort(rows, kind="stable")
    taken, start, done = [], 0, 0
    for batch in table.to_batches():
        start, stop = start + batch.num_rows, int(np.searchsorted(rows, start + batch.num_rows, sorter=order))
        if stop > done:
            taken.append(batch.take(pa.array(rows[order[done:stop]] - (start - batch.num_rows))))
            done = stop
    return pa.Table.from_batches(taken, table.schema).combine_chunks().take(pa.array(np.argsort(order)))


def _mask(values: Any) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), bool)
    return mask
