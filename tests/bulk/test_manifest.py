"""The manifest: replaceable parts, and compaction to one row per input."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from colorize.bulk.ledger.compaction import compact, merge
from colorize.bulk.ledger.lost import Lost
from colorize.bulk.ledger.manifest import MANIFEST, MANIFEST_SCHEMA, Record, record_from, write_part
from colorize.bulk.ledger.newest import read_manifest
from colorize.errors import UsageError
from colorize.storage.root import Storage
from tests.documents import block


def parts(storage: Storage) -> list[str]:
    return sorted(entry.name.rsplit("/", 1)[1] for entry in storage.entries(MANIFEST))


def test_a_record_survives_the_file(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    record = Record("a/ü #1.jpg", "a/ü #1.jpg", width=3, height=4, triage="color", luma_exact=True, seconds=0.25)
    write_part(storage, [record])

    (row,) = read_manifest(storage).to_pylist()
    assert record_from(row) == record


def test_a_failure_clears_the_output_columns() -> None:
    ok = Record("a", "a.png", bytes_out=10, sha256_out="00", luma_exact=True, width=5)
    failed = ok.failed("truncated", "ends early")

    assert (failed.status, failed.error, failed.output, failed.bytes_out, failed.sha256_out) == (
        "failed", "truncated", "", 0, "",
    )  # fmt: skip
    assert failed.width == 5
    assert not failed.luma_exact


def test_a_task_that_runs_twice_replaces_its_part(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    write_part(storage, [Record("a"), Record("b")])
    write_part(storage, [Record("b"), Record("a", message="again")])

    assert len(parts(storage)) == 1
    assert read_manifest(storage).num_rows == 2


def test_compaction_leaves_one_row_per_input_in_files_of_the_target_size(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    for start in range(0, 50, 5):
        write_part(storage, [Record(f"{i:03d}") for i in range(start, start + 5)])
    write_part(storage, [Record("003"), Record("050")])  # a retried task with other batch boundaries

    assert compact(storage, 0, rows_per_file=20).states == {"ok": 51}
    assert parts(storage) == [f"manifest-000001-{n:05d}.parquet" for n in range(3)]
    assert sorted(read_manifest(storage).column("path").to_pylist()) == [f"{i:03d}" for i in range(51)]


def test_compaction_is_idempotent_and_can_be_interrupted(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    write_part(storage, [Record(f"{i:03d}") for i in range(30)])
    before = {entry.name: storage.read(entry.name) for entry in storage.entries(MANIFEST)}
    compact(storage, 1, rows_per_file=20)
    compact(storage, 2, rows_per_file=8)
    assert sorted(read_manifest(storage)["path"].to_pylist()) == [f"{i:03d}" for i in range(30)]

    for name, data in before.items():  # killed before the old parts were deleted
        storage.write(name, data)
    assert read_manifest(storage).num_rows == 30


def test_rows_of_an_archive_that_could_not_be_written_are_failures(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    write_part(storage, [Record("a.parquet#0", "a.parquet#0"), Record("b.parquet#0", "b.parquet#0")])

    found = compact(storage, 0, 10, {"a.parquet": Lost("damaged")})
    assert (found.states, found.errors, found.lost_earlier) == ({"ok": 1, "failed": 1}, {"archive_unreadable": 1}, {})
    rows = {row["path"]: row for row in read_manifest(storage).to_pylist()}
    assert (rows["a.parquet#0"]["error"], rows["a.parquet#0"]["output"]) == ("archive_unreadable", "")


def test_files_have_the_documented_columns(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    write_part(storage, [Record("a")])
    compact(storage, 1, 10)

    assert pq.read_schema(tmp_path / MANIFEST / "manifest-000001-00000.parquet").names == MANIFEST_SCHEMA.names
    documented = {
        "path", "output", "status", "error", "message", "format", "mode", "width", "height", "bytes_in", "bytes_out",
        "sha256_in", "sha256_out", "model", "model_sha256", "settings_sha256", "luma_exact", "seconds",
    }  # fmt: skip
    assert documented <= set(MANIFEST_SCHEMA.names)


def test_an_empty_run_has_an_empty_manifest(tmp_path: Path) -> None:
    assert not compact(Storage(tmp_path), 1, 10).states
    assert read_manifest(Storage(tmp_path)).num_rows == 0


def test_the_newest_run_wins_and_reports_its_own_counts(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    write_part(storage, [Record("a", "a").failed("truncated", ""), Record("b", "b", run=1)])
    compact(storage, 1, 10)
    write_part(storage, [Record("a", "a", run=2)])
    assert {row["path"]: row["run"] for row in read_manifest(storage).to_pylist()} == {"a": 2, "b": 1}

    assert compact(storage, 2, 10).states == {"ok": 1}
    assert {row["path"]: row["status"] for row in read_manifest(storage).to_pylist()} == {"a": "ok", "b": "ok"}


def test_a_compacted_manifest_is_not_rewritten(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    write_part(storage, [Record("a", run=1)])
    compact(storage, 1, 10)
    before = parts(storage)
    compact(storage, 2, 10)

    assert parts(storage) == before


def test_the_last_completed_row_of_a_run_wins(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    write_part(storage, [Record("a", bytes_out=2, run=1, finished=2.0), Record("b", run=1)])
    for others in ("c", "d", "e", "f"):  # random names, some before the other part's
        write_part(storage, [Record("a", bytes_out=1, run=1, finished=1.0), Record(others, run=1)])

    assert {row["bytes_out"] for row in read_manifest(storage).to_pylist() if row["path"] == "a"} == {2}


def test_orphaned_outputs_are_reported(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    write_part(storage, [Record("a.gif", "a.gif.png", run=1), Record("b.jpg", "b.jpg", run=1)])
    compact(storage, 1, 10)
    write_part(storage, [Record("a.gif", run=2).failed("truncated", ""), Record("b.jpg", "b.jpg", run=2)])

    assert compact(storage, 2, 10).orphans == ["a.gif.png"]


def test_rows_of_removed_inputs_are_dropped(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    write_part(storage, [Record("a.parquet", run=1).failed("corrupt_parquet", ""), Record("b.parquet#0", run=1)])
    compact(storage, 2, 10, superseded=["a.parquet"])

    assert read_manifest(storage)["path"].to_pylist() == ["b.parquet#0"]


def test_a_manifest_of_an_older_release_is_read(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    table = pa.table({"path": ["a"], "status": ["ok"], "width": [3]})
    with storage.create(f"{MANIFEST}/manifest-001-00000.parquet") as file:
        pq.write_table(table, file)

    assert record_from(read_manifest(storage).to_pylist()[0]) == Record("a", width=3)


def test_parts_are_merged_during_the_run_and_a_repeated_task_adds_no_row(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    names = [write_part(storage, [Record(f"{i}.jpg", run=1)]) for i in range(40)]
    merged = merge(storage, 1, names)
    assert [entry.name for entry in storage.entries(MANIFEST)] == [merged]

    assert write_part(storage, [Record("7.jpg", run=1)]) == names[7]
    assert compact(storage, 1, 100).states == {"ok": 40}


def test_an_interrupted_merge_can_be_repeated(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    names = [write_part(storage, [Record(f"{i}.jpg", run=1)]) for i in range(4)]
    last = storage.read(names[3])
    merged = merge(storage, 1, names)
    storage.write(names[3], last)

    assert merge(storage, 1, names) == merged
    assert [entry.name for entry in storage.entries(MANIFEST)] == [merged]
    assert read_manifest(storage).num_rows == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-20],
        lambda data: data[:200] + b"\xff" * 20 + data[220:],
        lambda data: data[:-60] + b"\xff" * 40 + data[-20:],
        lambda data: b"",
    ],
    ids=["cut", "in a page", "in the footer", "empty"],
)
def test_a_damaged_part_is_reported_with_a_remedy(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    storage = Storage(tmp_path)
    part = tmp_path / write_part(storage, [Record(f"{number}.jpg", run=1) for number in range(100)])
    part.write_bytes(damage(part.read_bytes()))
    with pytest.raises(UsageError, match=rf"{part.name} is a damaged part of a manifest \(.*\): remove it"):
        read_manifest(storage)


def test_the_documented_query_counts_outcomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = Storage(tmp_path / "colored")
    rows = [Record(f"{i}.jpg", f"{i}.jpg", confidence=i / 100, run=1) for i in range(40)]
    write_part(storage, [*rows, Record("x.jpg", run=1).failed("truncated", "")])
    compact(storage, 1, 15)
    monkeypatch.chdir(tmp_path)
    exec(block("docs/manifest.md", "import duckdb").text)

    counts, least = capsys.readouterr().out.split("confidence")
    assert re.search(r"ok\W+40\W+failed\W+truncated\W+1\W", counts)
    assert re.findall(r"\d+\.jpg", least) == [f"{i}.jpg" for i in range(20)]
