"""Manifest, source and output compared as a whole: group by group, by way of the disk, in the memory of a group.

Whether an output is there is found first, in groups of outputs' names; then what became of inputs, in groups of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from colorize.bulk.ledger.manifest import row_tables, rows_about
from colorize.bulk.ledger.newest import newest_of
from colorize.bulk.ledger.settled import (
    PLANNED_SCHEMA,
    ROW_SCHEMA,
    Inputs,
    Mask,
    Settled,
    Terms,
    Verify,
    by_themselves,
    compare,
    outputs_there,
    verify_here,
)
from colorize.storage.grouped import Grouped, groups_of, mapped_array
from colorize.storage.listing import Entry
from colorize.storage.local_root import TEMPORARY_PREFIX
from colorize.storage.root import LEDGER, Storage

OUTPUTS_SCHEMA = pa.schema([("name", pa.string()), ("size", pa.int64())])
_CLAIMS = pa.schema([ROW_SCHEMA.field(name) for name in ("output", "bytes_out", "number")])


@dataclass
class Compared:
    """What a comparison found: what is settled, and of the files in the output those that have to be known by name."""

    settled: Settled
    written: set[str] = field(default_factory=set)  # archives
    leftovers: list[str] = field(default_factory=list)  # that killed processes left half done


def compare_all(
    inputs: Inputs, target: Storage, parts: Sequence[Entry], terms: Terms, verify: Verify = verify_here
) -> Compared:
    """What the manifest in `parts` settles of the inputs. Changes nothing."""
    found = Compared(Settled(inputs.total))
    groups = groups_of(max(inputs.files, rows_about(parts)))
    with Grouped(ROW_SCHEMA, "path", groups) as rows, Grouped(PLANNED_SCHEMA, "name", groups) as planned:
        there = _take_in_rows(rows, target, parts, terms, inputs, found)
        for table in inputs.planned_files():
            planned.add(table)
        for some, files in zip(rows, planned, strict=True):
            newest = some.filter(pa.array(newest_of(some)))
            found.settled.add(compare(newest, files, there, inputs, target, terms, verify))
    return found


def _take_in_rows(
    rows: Grouped, target: Storage, parts: Sequence[Entry], terms: Terms, inputs: Inputs, found: Compared
) -> Mask:
    """Fills `rows`; returns for each row of the manifest whether its output is there."""
    total = 0
    with Grouped(_CLAIMS, "output", rows.groups) as claims, Grouped(OUTPUTS_SCHEMA, "name", rows.groups) as outputs:
        for _, table in row_tables(target, parts, terms.columns):
            own = by_themselves(table, total, terms)
            rows.add(own)
            claims.add(own.select(_CLAIMS.names).filter(pc.not_equal(own["output"], "")))
            total += table.num_rows
        for listed in _outputs(target, inputs, found):
            outputs.add(listed)
        there: Mask = mapped_array(total, np.bool_, False)
        for claimed, listed in zip(claims, outputs, strict=True):
            there[claimed["number"].to_numpy()[outputs_there(claimed, listed)]] = True
    return there


def _outputs(target: Storage, inputs: Inputs, found: Compared) -> Iterator[pa.Table]:
    """The files that lie in an output, page by page."""
    for page in target.pages():
        listed = [entry for entry in page if not entry.name.startswith(f"{LEDGER}/")]
        half = [e.name for e in page if e.name.rpartition("/")[2].startswith(TEMPORARY_PREFIX)]
        if half:
            found.leftovers += half
            listed = [entry for entry in listed if entry.name not in half]
        found.written.update(entry.name for entry in listed if entry.name in inputs.source.versions)
        yield pa.table([[e.name for e in listed], [e.size for e in listed]], schema=OUTPUTS_SCHEMA)
