"""Checks which outputs of the manifest exist, by comparing it with a listing of the output.

For a large output this runs in a child process, while the driver lists the inputs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from colorize.bulk.ledger.manifest import MANIFEST_SCHEMA, part_entries, row_tables, rows_about
from colorize.datasets.exclusion import ARCHIVE_SUFFIX
from colorize.storage.grouped import Grouped, groups_of, positions
from colorize.storage.listing import Entry, Page
from colorize.storage.local_root import TEMPORARY_PREFIX
from colorize.storage.root import LEDGER, Storage
from colorize.storage.subprocess_call import SubprocessCall

MANY = 200_000  # rows, from which on a child process is worth its start

_CLAIMS = pa.schema([*(MANIFEST_SCHEMA.field(name) for name in ("output", "bytes_out")), ("number", pa.int64())])
_LEFTOVER = rf"(?:^|/){re.escape(TEMPORARY_PREFIX)}[^/]*$"
_OUTPUTS = pa.schema([("name", pa.string()), ("size", pa.int64())])


@dataclass
class Presence:
    """The files in an output.

    Attributes:
        bits: for each row of the manifest, in order, whether its output exists; eight per byte.
        archives: names of the existing archives.
        leftovers: temporary files of killed processes.
    """

    bits: NDArray[np.uint8]
    archives: set[str] = field(default_factory=set)
    leftovers: list[str] = field(default_factory=list)

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """For manifest rows, by their numbers, whether their outputs exist."""
        found: NDArray[np.bool_] = self.bits[rows >> 3] & (1 << (rows & 7)) != 0
        return found


@dataclass(frozen=True)
class PresenceCheck:
    """A check that may already be running in a child process, for the manifest at its start."""

    target: Storage
    parts: Sequence[Entry]
    call: SubprocessCall[Presence] | None

    @classmethod
    def start(cls, target: Storage, wanted: bool = True) -> PresenceCheck:
        """Starts a child process if `wanted` and the manifest is large."""
        parts = part_entries(target)
        many = wanted and rows_about(parts) >= MANY
        return cls(target, parts, SubprocessCall(find_presence, target, parts) if many else None)

    def result(self, parts: Sequence[Entry]) -> Presence:
        """The result for a manifest with these files; checks again if another run has changed the manifest."""
        if self.call is not None and parts == self.parts:
            try:
                return self.call.result()
            except EOFError:  # the child died: check again, here, where any error is raised
                pass
        return find_presence(self.target, parts)


def find_presence(target: Storage, parts: Sequence[Entry]) -> Presence:
    """Compares the manifest in `parts` with a listing, group by group through temporary files."""
    found, groups, total = Presence(np.empty(0, np.uint8)), groups_of(rows_about(parts)), 0
    with Grouped(_CLAIMS, "output", groups) as claims, Grouped(_OUTPUTS, "name", groups) as outputs:
        for _, table in row_tables(target, parts, ("output", "bytes_out")):
            numbers = pa.array(np.arange(total, total + table.num_rows))
            claims.add(table.append_column("number", numbers).filter(pc.not_equal(table["output"], "")))
            total += table.num_rows
        for listed in _listed(target, found):
            outputs.add(listed)
        found.bits = np.zeros(total // 8 + 1, np.uint8)
        for claimed, listed in zip(claims, outputs, strict=True):
            there = claimed["number"].to_numpy()[_outputs_there(claimed, listed)]
            np.bitwise_or.at(found.bits, there >> 3, (1 << (there & 7)).astype(np.uint8))
    return found


def _outputs_there(claims: pa.Table, outputs: pa.Table) -> NDArray[np.bool_]:
    """For each claim of a group, whether its file is in the group's outputs with the claimed size."""
    position = positions(claims["output"], outputs["name"])
    found: NDArray[np.bool_] = np.append(outputs["size"].to_numpy(), -1)[position] == claims["bytes_out"].to_numpy()
    return found


def _listed(target: Storage, found: Presence) -> Iterator[pa.Table]:
    """The files in an output, page by page; adds leftovers and archives to `found`."""
    for page in target.pages():
        every = page if isinstance(page, Page) else Page.of(entry for entry in page if _is_text(entry.name))
        half = pc.match_substring_regex(every.names, _LEFTOVER)
        found.leftovers += every.names.filter(half).to_pylist()
        own = every.filter(pc.invert(pc.or_(half, pc.starts_with(every.names, f"{LEDGER}/"))))
        suffixed = pc.ends_with(own.names, ARCHIVE_SUFFIX, ignore_case=True)
        found.archives.update(own.names.filter(suffixed).to_pylist())
        yield pa.table([own.names, own.sizes], schema=_OUTPUTS)


def _is_text(name: str) -> bool:
    """Whether a name is valid UTF-8, as all names in the manifest are."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
