"""Compares the whole manifest with source and output, group by group through temporary files, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from colorize.bulk.ledger.completed import (
    PLANNED_SCHEMA,
    ROW_SCHEMA,
    Completed,
    Criteria,
    Inputs,
    Verify,
    compare,
    validate_rows,
    verify_locally,
)
from colorize.bulk.ledger.manifest import row_tables, rows_about
from colorize.bulk.ledger.newest import newest_of
from colorize.bulk.ledger.presence import Presence
from colorize.storage.grouped import Grouped, groups_of
from colorize.storage.listing import Entry
from colorize.storage.root import Storage


@dataclass
class Compared:
    """The completed inputs, and the files in the output."""

    completed: Completed
    outputs: Presence


def compare_all(
    inputs: Inputs,
    target: Storage,
    parts: Sequence[Entry],
    criteria: Criteria,
    outputs: Presence,
    verify: Verify = verify_locally,
) -> Compared:
    """Finds the inputs that are completed according to the manifest in `parts`. Changes nothing."""
    found, total = Compared(Completed(inputs.total), outputs), 0
    groups = groups_of(max(inputs.files, rows_about(parts)))
    with Grouped(ROW_SCHEMA, "path", groups) as rows, Grouped(PLANNED_SCHEMA, "name", groups) as planned:
        for _, table in row_tables(target, parts, criteria.columns):
            rows.add(validate_rows(table, total, criteria))
            total += table.num_rows
        for table in inputs.planned_files():
            planned.add(table)
        for some, files in zip(rows, planned, strict=True):
            some = some.filter(pa.array(newest_of(some)))
            found.completed.add(compare(some, files, outputs, inputs, target, criteria, verify))
            del some  # before the next group is read
    return found
