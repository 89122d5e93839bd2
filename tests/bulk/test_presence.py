"""Which outputs in the manifest exist, checked in this process or another."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from colorize.bulk.ledger import presence
from colorize.bulk.ledger.manifest import Record, part_entries, write_part
from colorize.bulk.ledger.presence import PresenceCheck, find_presence
from colorize.storage.root import Storage
from colorize.storage.subprocess_call import SubprocessCall


@pytest.fixture
def target(tmp_path: Path) -> Storage:
    """A manifest of four rows; the outputs of the second and the last exist."""
    found = Storage(tmp_path)
    names = ["gone.jpg", "there.jpg", "shorter.jpg", "", "there.png"]
    write_part(found, [Record(f"{index}.jpg", output=name, bytes_out=5) for index, name in enumerate(names)])
    for name, size in (("there.jpg", 5), ("shorter.jpg", 4), ("there.png", 5), ("foreign.jpg", 5)):
        found.write(name, b"x" * size)
    return found


def there(found: presence.Presence) -> list[int]:
    return np.flatnonzero(found.of(np.arange(5))).tolist()


def test_an_output_is_present_if_its_size_matches_its_row(target: Storage) -> None:
    assert there(find_presence(target, part_entries(target))) == [1, 4]


def test_archives_and_leftovers_are_recognized_by_name(target: Storage, tmp_path: Path) -> None:
    target.write("sub/part.parquet", b"x")
    (tmp_path / "sub/.colorize-tmp-1").write_bytes(b"half")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/f\xfcr.jpg")).write_bytes(b"a name that is not UTF-8")
    found = find_presence(target, part_entries(target))

    assert found.archives == {"sub/part.parquet"}
    assert found.leftovers == ["sub/.colorize-tmp-1"]


@pytest.mark.slow
def test_another_process_finds_the_same(target: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "MANY", 0)
    presence_check = PresenceCheck.start(target)
    assert presence_check.call is not None
    monkeypatch.setattr(presence, "find_presence", None)
    assert there(presence_check.result(part_entries(target))) == [1, 4]


def test_results_older_than_newer_rows_are_not_used(target: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "MANY", 0)
    presence_check = PresenceCheck.start(target)
    write_part(target, [Record("foreign.jpg", output="foreign.jpg", bytes_out=5)])
    parts = part_entries(target)
    assert find_presence(target, parts).bits.tolist() == presence_check.result(parts).bits.tolist()


@pytest.mark.slow
def test_a_failed_check_in_the_process_is_repeated_locally(target: Storage) -> None:
    parts = part_entries(target)
    presence_check = PresenceCheck(target, parts, SubprocessCall(find_presence, target, None))
    assert there(presence_check.result(parts)) == [1, 4]


def test_few_rows_are_checked_without_a_process(target: Storage) -> None:
    assert PresenceCheck.start(target).call is None
