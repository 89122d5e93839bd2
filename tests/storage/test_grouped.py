"""Tables in groups: equal names share a group, every row appears once, in memory or on disk."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pytest

from colorize.storage import grouped
from colorize.storage.grouped import Grouped, groups_of, mapped_array
from colorize.storage.spooled import SpooledTables

SCHEMA = pa.schema([("name", pa.string()), ("number", pa.int64())])


def table(numbers: range) -> pa.Table:
    return pa.table([[f"ü{number % 97}" for number in numbers], list(numbers)], schema=SCHEMA)


@pytest.mark.parametrize(("waiting", "held"), [(50_000, 1 << 30), (64, 1 << 30), (50_000, 1000)])
def test_equal_names_share_a_group_and_every_row_has_one(
    waiting: int, held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(grouped, "GROUP_ROWS", waiting)
    monkeypatch.setattr(grouped, "RUN_ROWS", 1)
    monkeypatch.setattr(grouped, "BUFFER_BYTES", held)
    spooled = Mock(wraps=SpooledTables)
    monkeypatch.setattr(grouped, "SpooledTables", spooled)
    with Grouped(SCHEMA, "name", 7) as found:
        for start in range(0, 1000, 50):
            found.add(table(range(start, start + 50)))
        groups = [group.to_pydict() for group in found]
        assert not os.listdir(tmp_path)  # a process that is killed leaves nothing  # noqa: PTH208

    assert bool(spooled.call_count) == (waiting < 1000 or held == 1000)
    assert sorted(number for group in groups for number in group["number"]) == list(range(1000))
    assert set(Counter(name for group in groups for name in set(group["name"])).values()) == {1}


def test_tables_with_equal_names_are_grouped_alike() -> None:
    with Grouped(SCHEMA, "name", 5) as one, Grouped(SCHEMA, "name", 5) as other:
        one.add(table(range(97)))
        for number in reversed(range(97)):
            other.add(table(range(number, number + 1)))
        assert [set(group["name"].to_pylist()) for group in one] == [set(group["name"].to_pylist()) for group in other]


def test_an_empty_table_has_empty_groups() -> None:
    with Grouped(SCHEMA, "name", 3) as found:
        assert [group.num_rows for group in found] == [0, 0, 0]
        assert found.group(0).schema == SCHEMA


def test_groups_have_a_constant_target_size() -> None:
    assert groups_of(0) == groups_of(50_000) == 1
    assert groups_of(100_000_000) == 2000


def test_a_memory_mapped_array_is_an_array() -> None:
    array = mapped_array(5, np.int32, -1)
    array[[1, 3]] = 7
    assert array.tolist() == [-1, 7, -1, 7, -1]
    assert mapped_array(0, np.bool_, True).tolist() == []
