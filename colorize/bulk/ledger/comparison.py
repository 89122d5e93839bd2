"""Manifest, source and output compared as a whole: group by group, by way of the disk, in the memory of a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from colorize.bulk.ledger.manifest import row_tables, rows_about
from colorize.bulk.ledger.newest import newest_of
from colorize.bulk.ledger.presence import Presence
from colorize.bulk.ledger.settled import (
    PLANNED_SCHEMA,
    ROW_SCHEMA,
    Inputs,
    Settled,
    Terms,
    Verify,
    by_themselves,
    compare,
    verify_here,
)
from colorize.storage.grouped import Grouped, groups_of
from colorize.storage.listing import Entry
from colorize.storage.root import Storage


@dataclass
class Compared:
    """What a comparison found: what is settled of the inputs, and what lies in the output."""

    settled: Settled
    outputs: Presence


def compare_all(
    inputs: Inputs,
    target: Storage,
    parts: Sequence[Entry],
    terms: Terms,
    outputs: Presence,
    verify: Verify = verify_here,
) -> Compared:
    """What the manifest in `parts` settles of the inputs. Changes nothing."""
    found, total = Compared(Settled(inputs.total), outputs), 0
    groups = groups_of(max(inputs.files, rows_about(parts)))
    with Grouped(ROW_SCHEMA, "path", groups) as rows, Grouped(PLANNED_SCHEMA, "name", groups) as planned:
        for _, table in row_tables(target, parts, terms.columns):
            rows.add(by_themselves(table, total, terms))
            total += table.num_rows
        for table in inputs.planned_files():
            planned.add(table)
        for some, files in zip(rows, planned, strict=True):
            newest = some.filter(pa.array(newest_of(some)))
            found.settled.add(compare(newest, files, outputs, inputs, target, terms, verify))
    return found
