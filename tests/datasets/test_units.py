"""The table of units, in memory and in a file, and the size of tasks."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from colorize.datasets import units
from colorize.datasets.exclusion import Exclusion
from colorize.datasets.task_size import LEAST, MOST, rows_per_task
from colorize.datasets.units import list_units, unit_of, units_table
from colorize.storage.listing import Entry


def pages(count: int, size: int = 5) -> Iterator[list[Entry]]:
    for start in range(0, count, 1000):
        yield [Entry(f"box/{i:08d}.jpg", size, f"tag-{i:08d}") for i in range(start, min(start + 1000, count))]


def test_a_long_listing_is_spooled_to_a_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    expected = list_units(pages(35_000), Exclusion()).units
    monkeypatch.setattr(units, "IN_MEMORY", 15_000)
    listed = list_units(pages(35_000), Exclusion())

    assert listed.units.equals(expected)
    assert listed.images == 35_000
    assert not os.listdir(tmp_path)  # noqa: PTH208


@pytest.mark.slow
def test_tasks_are_sized_by_image_cost_and_count() -> None:
    def rows(count: int, size: int, least_tasks: int = 256) -> int:
        return rows_per_task(list_units(pages(count, size), Exclusion()).units, least_tasks)

    assert rows(200_000, 4_000) == MOST
    assert rows(200_000, 100_000_000) == LEAST
    assert LEAST < rows(200_000, 4_000_000) < 60
    assert rows(2_000, 4_000) == LEAST
    assert rows(20_000, 4_000) == 78
    assert rows(20_000, 4_000, least_tasks=100) == 200


def test_rows_of_archives_count_by_their_share_of_the_file() -> None:
    big = [unit_of(Entry("a.parquet", 10**9, "")) | {"row_group": i, "count": 100_000} for i in range(3)]
    few = [unit_of(Entry("a.parquet", 10**12, "")) | {"row_group": i, "count": 100_000} for i in range(3)]

    assert rows_per_task(units_table(big), 256) == MOST
    assert rows_per_task(units_table(few), 256) < 100


def test_files_of_unknown_size_count_as_average() -> None:
    assert LEAST < rows_per_task(list_units(pages(100_000, -1), Exclusion()).units, 256) < MOST
