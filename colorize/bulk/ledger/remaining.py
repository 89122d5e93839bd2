"""The remaining inputs of a source after earlier runs: files, and rows of archives that are in no fragment."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from colorize.bulk.ledger.comparison import Compared
from colorize.bulk.ledger.completed import PENDING, Completed, Criteria, Inputs
from colorize.bulk.sinks import FRAGMENTS, fragments_of
from colorize.datasets.readers import UNIT_SCHEMA
from colorize.datasets.sources import Source
from colorize.datasets.units import select_units
from colorize.storage.root import Storage

LOST = ("archive_unreadable", "corrupt_parquet")  # an archive with such rows has no output

_FRAGMENT = re.compile(r"(.+)/([0-9]{1,15})-([0-9]{1,15})\.parquet", re.DOTALL)

Fragments = dict[str, list[tuple[int, int, str]]]  # folder -> first row, last row, name


def find_remaining(inputs: Inputs, compared: Compared, target: Storage, criteria: Criteria) -> tuple[Source, list[str]]:
    """The remaining source, and the names of fragments with rows to be redone.

    Marks rows of archives that must be redone as pending in `compared.completed`. Nothing is written or deleted.
    """
    source, completed, written = inputs.source, compared.completed, compared.outputs.archives
    alone = select_units(source.units.slice(0, inputs.files), lambda start, stop: ~completed.done(start, stop))
    if source.parts is None:
        return source.only(alone), []
    fragments = _list_fragments(target)
    units: list[dict[str, Any]] = []
    outdated: list[str] = []
    parts = {name: 0 for name, rows in source.parts.items() if rows == 0 and name not in written}
    for name, own in _by_archive(source, inputs.files).items():
        rows = slice(*(int(inputs.starts[index - inputs.files]) for index in (own[0], own[-1] + 1)))
        done = completed.done(rows.start, rows.stop)
        folder = fragments_of(name, criteria.model_sha256, criteria.settings_sha256, source.versions[name])
        if _is_finished(name, done, completed, rows, written) and not fragments.get(folder):
            continue
        done, partial = _covered(done, fragments.get(folder, []))
        outdated += partial
        completed.outcomes[rows][~done] = PENDING
        parts[name] = int((~done).sum())
        units += [piece for i in own for piece in _cut(source.units.slice(i, 1).to_pylist()[0], done)]
    left = pa.concat_tables([alone, pa.Table.from_pylist(units, schema=UNIT_SCHEMA)])
    return source.only(left, parts), outdated


def _by_archive(source: Source, files: int) -> dict[str, list[int]]:
    """The indices of each archive's units, which are consecutive and after those of files."""
    found: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(source.units["name"].slice(files).to_pylist(), files):
        found[name].append(index)
    return found


def _is_finished(name: str, done: NDArray[np.bool_], completed: Completed, rows: slice, written: set[str]) -> bool:
    if not done.all():
        return False
    errors = {completed.kinds[code][1] for code in np.unique(completed.outcomes[rows])}
    return name in written or bool(errors.intersection(LOST))


def _list_fragments(target: Storage) -> Fragments:
    found: Fragments = defaultdict(list)
    for entry in target.entries(FRAGMENTS):
        if fragment := _FRAGMENT.fullmatch(entry.name):  # ignore other files
            folder, first, last = fragment.groups()
            found[folder].append((int(first), int(last), entry.name))
    return found


def _covered(done: NDArray[np.bool_], fragments: list[tuple[int, int, str]]) -> tuple[NDArray[np.bool_], list[str]]:
    """A mask of the rows in fragments with only completed rows, and the names of the other fragments."""
    covered, others = np.zeros(len(done), bool), []
    for first, last, name in fragments:
        if done[first : last + 1].all():
            covered[first : last + 1] = True
        else:
            others.append(name)
    return covered, others


def _cut(unit: dict[str, Any], done: NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
    """The runs of rows of a unit that are not completed."""
    mine = ~done[unit["first"] : unit["first"] + unit["count"]]
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mine.view(np.int8), [0]))))
    for start, stop in edges.reshape(-1, 2).tolist():
        moved = {"skip": unit["skip"] + start, "first": unit["first"] + start, "count": stop - start}
        yield unit | moved
