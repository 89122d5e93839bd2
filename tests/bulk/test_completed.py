"""Inputs completed by earlier runs: the manifest compared with source and output, without Ray."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from colorize.bulk.ledger.comparison import compare_all
from colorize.bulk.ledger.completed import Criteria, Inputs
from colorize.bulk.ledger.manifest import MANIFEST, Record, part_entries, records_table, write_part, write_rows
from colorize.bulk.ledger.presence import find_presence
from colorize.bulk.ledger.remaining import find_remaining
from colorize.bulk.settings import Policy, TriageSettings
from colorize.datasets.readers import UNIT_SCHEMA, FileReader
from colorize.datasets.settings import SourceSettings
from colorize.datasets.sources import Source, open_source
from colorize.imaging.settings import SizeLimits
from colorize.storage import grouped
from colorize.storage.root import Storage

CRITERIA = Criteria("model", "settings")
UNIT = {"size": 3, "identity": "1", "row_group": -1, "skip": 0, "first": 0, "count": 1, "name_taken": False,
        "error": "", "message": ""}  # fmt: skip


@pytest.fixture
def target(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


@pytest.fixture(params=["one group", "many groups"])
def groups(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "many groups":
        monkeypatch.setattr(grouped, "GROUP_ROWS", 3)
        monkeypatch.setattr(grouped, "RUN_ROWS", 1)


def units(*names: str) -> pa.Table:
    return pa.Table.from_pylist([UNIT | {"name": name} for name in names], schema=UNIT_SCHEMA)


def row(name: str, **said: Any) -> Record:
    held: dict[str, Any] = {
        "output": name,
        "bytes_out": 5,
        "identity": "1",
        "model_sha256": "model",
        "settings_sha256": "settings",
    }
    return Record(name, **(held | said))


def completed(target: Storage, planned: pa.Table, there: Iterable[str], criteria: Criteria = CRITERIA) -> list[str]:
    """The status of each input, "" if it is pending, by the manifest in `target`; outputs have 5 bytes."""
    for name in there:
        target.write(name, b"12345")
    inputs = Inputs(Source(FileReader(target, SourceSettings()), planned))
    found = compare_all(inputs, target, parts := part_entries(target), criteria, find_presence(target, parts))
    remaining, _ = find_remaining(inputs, found, target, criteria)
    states = [found.completed.kinds[code][0] if code >= 0 else "" for code in found.completed.outcomes]
    names = planned["name"].to_pylist()
    assert list(remaining.names()) == [name for name, state in zip(names, states, strict=True) if not state]
    assert dict(found.completed.counts()).keys() == {
        found.completed.kinds[code] for code in found.completed.outcomes if code >= 0
    }
    return states


@pytest.mark.usefixtures("groups")
def test_rows_are_found_however_listings_are_split(target: Storage) -> None:
    names = [f"{number}.jpg" for number in range(40)]
    planned = pa.concat_tables([units(*names[start : start + 7]) for start in range(0, 40, 7)])
    chosen = np.random.default_rng(0).permutation(40)[:20]
    for some in (chosen[:3], chosen[3:]):
        write_part(target, [row(names[number]) for number in some])
    write_part(target, [row("no input.jpg")])

    done = completed(target, planned, names[:36])
    assert done == ["ok" if number in chosen and number < 36 else "" for number in range(40)]


@pytest.mark.usefixtures("groups")
def test_the_newest_row_of_an_input_wins(target: Storage) -> None:
    write_part(target, [row("a.jpg", run=1), row("b.jpg", run=1).failed("truncated", ""), row("c.jpg", run=1)])
    write_part(target, [row("a.jpg", run=2).failed("truncated", ""), row("b.jpg", run=2)])
    write_part(target, [row("c.jpg", run=2, model_sha256="another")])

    assert completed(target, units("a.jpg", "b.jpg", "c.jpg"), ["a.jpg", "b.jpg", "c.jpg"]) == ["failed", "ok", ""]


@pytest.mark.usefixtures("groups")
def test_an_output_may_have_another_name_than_its_input(target: Storage) -> None:
    write_part(target, [row(f"{i}.gif", output=f"{i}.gif.png") for i in range(9)] + [row("x.gif", output="gone.png")])

    done = completed(target, units(*(f"{i}.gif" for i in range(9)), "x.gif"), [f"{i}.gif.png" for i in range(1, 9)])
    assert done == ["", *["ok"] * 8, ""]


def test_a_manifest_of_an_earlier_release_counts(target: Storage) -> None:
    """It has fewer columns, and one row group."""
    rows = records_table([row("a.jpg", width=9, height=9), row("b.jpg").failed("truncated", "ends early")])
    write_rows(
        target, f"{MANIFEST}/manifest-001-00000.parquet", rows.drop_columns(["finished", "confidence", "frames"])
    )

    assert completed(target, units("a.jpg", "b.jpg"), ["a.jpg"]) == ["ok", "failed"]


@pytest.mark.usefixtures("groups")
def test_rows_of_archives_are_found_among_files(tmp_path: Path, target: Storage) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, rows in (("a", 5), ("b", 3)):
        pq.write_table(pa.table({"image": [b"1"] * rows}), folder / f"{name}.parquet", row_group_size=2)
    (folder / "broken.parquet").write_bytes(b"no archive")
    (folder / "scan.jpg").write_bytes(b"1")
    source = open_source(str(folder), SourceSettings())
    identity = {**source.versions, **dict(zip(source.names(), source.units["identity"].to_pylist(), strict=True))}
    write_part(target, [row(f"a.parquet#{i}", identity=identity["a.parquet"]) for i in range(4)])
    write_part(target, [row(f"b.parquet#{i}", identity="before") for i in range(3)])
    write_part(target, [row("a.parquet#9"), row("b.parquet"), row("broken.parquet#0"), row("gone.parquet#0")])
    write_part(target, [row("scan.jpg", identity=identity["scan.jpg"]), row("broken.parquet", identity="")])
    target.write("scan.jpg", b"12345")

    inputs = Inputs(source)
    found = compare_all(inputs, target, parts := part_entries(target), CRITERIA, find_presence(target, parts))
    numbers = {int(number) for number in np.flatnonzero(found.completed.done())}
    places = {"scan.jpg": 0} | {f"{unit['name']}#{unit['first'] + i}": int(inputs.starts[index - inputs.files]) + i
              for index, unit in enumerate(source.units.to_pylist()) if index >= inputs.files
              for i in range(unit["count"])}  # fmt: skip

    assert {path for path, number in places.items() if number in numbers} == {
        "scan.jpg", "a.parquet#0", "a.parquet#1", "a.parquet#2", "a.parquet#3",
    }  # fmt: skip
    assert sorted(found.completed.stale) == ["a.parquet#9", "b.parquet", "broken.parquet#0"]


@pytest.mark.parametrize(
    ("limits", "to_do"),
    [
        ({}, []),
        ({"max_pixels": 10_000}, ["ok"]),  # what one limit refused, another may refuse, too
        ({"max_pixels": 500_000_000}, ["large"]),
        ({"min_side": 100}, ["ok"]),
        ({"min_side": 10}, ["small"]),
        ({"max_bytes": 500}, ["ok"]),
        ({"max_bytes": 8 << 40}, ["sparse"]),
    ],
)
def test_changed_limits_redo_only_the_affected_images(
    target: Storage, limits: dict[str, int], to_do: list[str]
) -> None:
    rows = {
        "ok": row("ok", width=200, height=90, bytes_in=501),
        "large": row("large", width=20_010, height=20_000).failed("too_large", ""),
        "small": row("small", width=900, height=15).failed("too_small", ""),
        "huge": row("huge").failed("too_large", ""),  # the size is unknown
        "sparse": row("sparse", bytes_in=7 << 40).failed("too_large", "... raise limits.max_bytes"),
        "broken": row("broken").failed("truncated", ""),
    }
    criteria = replace(CRITERIA, limits=SizeLimits(**({"max_pixels": 400_000_000, "min_side": 20} | limits)))

    write_part(target, list(rows.values()))
    done = completed(target, units(*rows), ["ok"], criteria)
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
def test_a_changed_policy_redoes_only_images_of_its_kind(
    target: Storage, policies: dict[str, Policy], to_do: list[str]
) -> None:
    rows = {
        "grey": row("grey", triage="grey"),
        "page": row("page", triage="text"),
        "modern": row("modern", triage="color", status="skipped", error="already_color", output=""),
        "copied": row("copied", triage="toned", status="skipped", error="triage_toned"),
        "older": row("older"),  # from a release that did not record it
        "failed": row("failed", triage="text").failed("render_failed", ""),
    }
    criteria = replace(CRITERIA, triage=TriageSettings(**({"toned": "copy"} | policies)))

    write_part(target, list(rows.values()))
    done = completed(target, units(*rows), rows, criteria)
    assert [name for name, status in zip(rows, done, strict=True) if not status] == to_do
