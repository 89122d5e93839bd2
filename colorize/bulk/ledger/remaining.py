"""What is left of a source after earlier runs: fewer files, or the rows of archives that no fragment holds yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from colorize.bulk.ledger.manifest import READ_THREADS, part_names, read_rows
from colorize.bulk.ledger.settled import TO_DO, Inputs, Settled, Terms
from colorize.bulk.sinks import FRAGMENTS, fragments_of
from colorize.datasets.readers import UNIT_SCHEMA
from colorize.datasets.sources import Source
from colorize.storage.root import Storage

LOST = ("archive_unreadable", "corrupt_parquet")  # an archive with such rows has no output

Fragments = dict[str, list[tuple[int, int, str]]]  # folder -> first row, last row, name


def remaining(inputs: Inputs, settled: Settled, outputs: pa.Table, target: Storage, terms: Terms) -> Source:
    """The source that is left to color. What cannot be kept of archives is marked as to do in `settled`."""
    source = inputs.source
    if source.parts is None:
        return source.only(source.units.filter(pa.array(~settled.done)))
    written, fragments = set(outputs["name"].to_pylist()), _list_fragments(target)
    units: list[dict[str, Any]] = []
    parts = {name: 0 for name, rows in source.parts.items() if rows == 0 and name not in written}
    for name, own in _by_archive(source).items():
        rows = slice(int(inputs.starts[own[0]]), int(inputs.starts[own[-1] + 1]))
        done = np.not_equal(settled.outcomes[rows], TO_DO)
        if name in source.parts:
            folder = fragments_of(name, terms.model_sha256, terms.settings_sha256, source.versions[name])
            if _is_finished(name, done, settled, rows, written) and not fragments.get(folder):
                continue
            done = _covered(done, fragments.get(folder, []), target)
            settled.outcomes[rows][~done] = TO_DO
            parts[name] = int((~done).sum())
        units += [piece for i in own for piece in _cut(source.units.slice(i, 1).to_pylist()[0], done)]
    return source.only(pa.Table.from_pylist(units, schema=UNIT_SCHEMA), parts)


def not_in_run(source: Source, target: Storage, run: int) -> Source:
    """The files of a source that no manifest row of the run numbered `run` speaks of yet."""
    parts = [name for name in part_names(target) if f"/part-{run:06d}-" in name]
    with ThreadPoolExecutor(READ_THREADS) as pool:
        rows = list(pool.map(lambda part: read_rows(target, part, ("path",)), parts))
    done = pa.chunked_array([chunk for table in rows for chunk in table["path"].chunks], pa.string())
    names, done = source.units["name"].cast(pa.large_string()), done.cast(pa.large_string())  # there may be gigabytes
    return source.only(source.units.filter(pc.invert(pc.is_in(names, value_set=done))))


def _by_archive(source: Source) -> dict[str, list[int]]:
    """The indices of each archive's units, which stand side by side."""
    found: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(source.units["name"].to_pylist()):
        found[name].append(index)
    return found


def _is_finished(name: str, done: NDArray[np.bool_], settled: Settled, rows: slice, written: set[str]) -> bool:
    if not done.all():
        return False
    errors = {settled.kinds[code][1] for code in np.unique(settled.outcomes[rows])}
    return name in written or bool(errors.intersection(LOST))


def _list_fragments(target: Storage) -> Fragments:
    found: Fragments = defaultdict(list)
    for entry in target.entries(FRAGMENTS):
        folder, _, base = entry.name.rpartition("/")
        first, last = base.removesuffix(".parquet").split("-")
        found[folder].append((int(first), int(last), entry.name))
    return found


def _covered(done: NDArray[np.bool_], fragments: list[tuple[int, int, str]], target: Storage) -> NDArray[np.bool_]:
    """The rows that lie in a fragment all of whose rows are done; other fragments are deleted, to be made anew."""
    covered = np.zeros(len(done), bool)
    for first, last, name in fragments:
        if done[first : last + 1].all():
            covered[first : last + 1] = True
        else:
            target.delete(name)
    return covered


def _cut(unit: dict[str, Any], done: NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
    """The runs of rows of a unit that are not done."""
    mine = ~done[unit["first"] : unit["first"] + unit["count"]]
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mine.view(np.int8), [0]))))
    for start, stop in edges.reshape(-1, 2).tolist():
        moved = {"skip": unit["skip"] + start, "first": unit["first"] + start, "count": stop - start}
        yield unit | moved
