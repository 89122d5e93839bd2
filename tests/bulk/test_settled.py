"""What earlier runs have settled: the manifest compared with the source and the output, without Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from colorize.bulk.ledger.manifest import Record, records_table
from colorize.bulk.ledger.settled import COLUMNS, OUTPUTS_SCHEMA, Inputs, Settled, Terms, compare
from colorize.bulk.settings import Policy, TriageSettings
from colorize.datasets.readers import UNIT_SCHEMA, FileReader
from colorize.datasets.settings import SourceSettings
from colorize.datasets.sources import Source
from colorize.imaging.settings import SizeLimits
from colorize.storage.root import Storage

TERMS = Terms("model", "settings")
UNIT = {"size": 3, "identity": "1", "row_group": -1, "skip": 0, "first": 0, "count": 1, "name_taken": False,
        "error": "", "message": ""}  # fmt: skip


def units(*names: str) -> pa.Table:
    return pa.Table.from_pylist([UNIT | {"name": name} for name in names], schema=UNIT_SCHEMA)


def outputs(*names: str) -> pa.Table:
    return pa.table([names, [5] * len(names)], schema=OUTPUTS_SCHEMA)


def row(name: str, **said: Any) -> Record:
    held: dict[str, Any] = {
        "output": name,
        "bytes_out": 5,
        "identity": "1",
        "model_sha256": "model",
        "settings_sha256": "settings",
    }
    return Record(name, **(held | said))


def settled(planned: pa.Table, there: pa.Table, *rows: Record, terms: Terms = TERMS) -> list[str]:
    """The status of each input, "" where there is work to do."""
    storage = Storage(Path.cwd())
    inputs = Inputs(Source(FileReader(storage, SourceSettings()), planned))
    found = Settled(inputs.total)
    found.add(compare(records_table(rows).select(COLUMNS), inputs, there, storage, terms))
    return [found.kinds[code][0] if code >= 0 else "" for code in found.outcomes]


def test_a_row_is_found_whatever_the_pieces_that_the_listings_came_in() -> None:
    names = [f"{number}.jpg" for number in range(40)]
    planned = pa.concat_tables([units(*names[start : start + 7]) for start in range(0, 40, 7)])
    there = pa.concat_tables([outputs(*names[start : start + 9]) for start in range(27, -1, -9)])
    chosen = np.random.default_rng(0).permutation(40)[:20]
    rows = [row(names[number]) for number in chosen]

    done = settled(planned, there, *rows, row("no input.jpg"))
    assert done == ["ok" if number in chosen and number < 36 else "" for number in range(40)]


def test_more_names_are_compared_than_fit_into_one_array() -> None:
    """Arrow's strings of one array have at most 2 GiB; the same long names again and again take no memory here."""
    long = units(*(str(number) + "x" * (32 << 20) for number in range(4)))
    planned = pa.concat_tables([units("a.jpg"), *[long] * 17, units("b.jpg")])
    there = pa.concat_tables([outputs("a.jpg"), *[outputs(*long["name"].to_pylist())] * 17, outputs("b.jpg")])

    done = settled(planned, there, row("b.jpg"), row("a.jpg", bytes_out=4))
    assert [done[0], done[-1], set(done[1:-1])] == ["", "ok", {""}]


@pytest.mark.parametrize(
    ("limits", "to_do"),
    [
        ({}, []),
        ({"max_pixels": 10_000}, ["ok"]),  # what was refused for one limit may be so for the other
        ({"max_pixels": 500_000_000}, ["large"]),
        ({"min_side": 100}, ["ok"]),
        ({"min_side": 10}, ["small"]),
        ({"max_bytes": 500}, ["ok"]),
        ({"max_bytes": 8 << 40}, ["sparse"]),
    ],
)
def test_other_limits_concern_the_pictures_that_they_treat_otherwise(limits: dict[str, int], to_do: list[str]) -> None:
    rows = {
        "ok": row("ok", width=200, height=90, bytes_in=501),
        "large": row("large", width=20_010, height=20_000).failed("too_large", ""),
        "small": row("small", width=900, height=15).failed("too_small", ""),
        "huge": row("huge").failed("too_large", ""),  # no size is known
        "sparse": row("sparse", bytes_in=7 << 40).failed("too_large", "... raise limits.max_bytes"),
        "broken": row("broken").failed("truncated", ""),
    }
    terms = replace(TERMS, limits=SizeLimits(**({"max_pixels": 400_000_000, "min_side": 20} | limits)))

    done = settled(units(*rows), outputs("ok"), *rows.values(), terms=terms)
    assert [name for name, status in zip(rows, done, strict=True) if not status] == to_do


@pytest.mark.parametrize(
    ("policies", "to_do"),
    [
        ({}, []),
        ({"text": "copy"}, ["page"]),
        ({"color": "color"}, ["modern"]),
        ({"toned": "skip"}, ["copied"]),
        ({"toned": "color"}, ["copied"]),
    ],
)
def test_another_policy_concerns_the_pictures_of_its_kind(policies: dict[str, Policy], to_do: list[str]) -> None:
    rows = {
        "grey": row("grey", triage="grey"),
        "page": row("page", triage="text"),
        "modern": row("modern", triage="color", status="skipped", error="already_color", output=""),
        "copied": row("copied", triage="toned", status="skipped", error="triage_toned"),
        "older": row("older"),  # of a release that did not look
        "failed": row("failed", triage="text").failed("render_failed", ""),
    }
    terms = replace(TERMS, triage=TriageSettings(**({"toned": "copy"} | policies)))

    done = settled(units(*rows), outputs(*rows), *rows.values(), terms=terms)
    assert [name for name, status in zip(rows, done, strict=True) if not status] == to_do
