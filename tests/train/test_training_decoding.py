"""Decoding for training: malicious images are corrupt rows, and the others are read."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from colorize.imaging.sandbox import is_plain
from colorize.imaging.settings import LimitSettings
from colorize.train import rows
from colorize.train.decode import Row
from colorize.train.epoch_plan import EpochPlan
from colorize.train.reading import SplitReader, open_training_source, read_rows, shuffled_blocks, split_reader
from colorize.train.settings import DataSettings, TrainSettings
from tests import bombs

SETTINGS = TrainSettings(data=DataSettings(short_side=32))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two valid images, and two corrupt ones between them."""
    out = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 30, 20)).save(out, "PNG")
    images = [out.getvalue(), b"no image", bombs.tiff_of_many_directories(24_000)[:64], out.getvalue()]
    for number, data in enumerate(images):
        (tmp_path / "train").mkdir(exist_ok=True)
        (tmp_path / f"train/{number}.png").write_bytes(data)
    return tmp_path


def by_ray_data(reader: SplitReader, blocks: list[pa.Table]) -> list[Row]:
    encoded = [table for block in blocks for table in rows.fetch(block, reader=reader)]
    return [row for table in encoded for row in rows.rows_of(rows.decode(table, reader=reader), reader.data)]


def by_threads(reader: SplitReader, blocks: list[pa.Table]) -> list[Row]:
    return list(read_rows(blocks, reader, threads=2))


@pytest.mark.slow
@pytest.mark.parametrize("read", [by_ray_data, by_threads])
@pytest.mark.parametrize("apart", [False, True], ids=["here", "in child processes"])
def test_corrupt_images_are_rows_in_their_places(
    read: Callable[[SplitReader, list[pa.Table]], list[Row]], apart: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if apart:  # as in the second attempt of a task, and without Ray for all but plain images
        monkeypatch.setattr(rows, "task_attempt", lambda: 1)
        monkeypatch.setattr("colorize.train.reading.is_plain", lambda data, limits: False)
    source = open_training_source(str(folder), SETTINGS.data)
    found = read(split_reader(source, "train", SETTINGS, EpochPlan(4)), shuffled_blocks(source, SETTINGS))

    assert [row.rgb is None for row in found] == [False, True, True, False]
    assert found[0].rgb is not None
    assert found[0].rgb.shape == (32, 32, 3)
    assert np.array_equal(found[0].rgb, np.asarray(found[3].rgb))


@pytest.mark.parametrize(
    ("format", "options", "plain"),
    [
        ("PNG", {}, True),
        ("JPEG", {}, True),
        ("JPEG", {"progressive": True}, False),  # progressive: any number of scans
        ("TIFF", {}, False),
        ("WEBP", {}, False),
        ("JPEG2000", {}, False),
    ],
)
def test_only_images_with_a_known_decoded_size_are_decoded_in_the_training_process(
    format: str, options: dict[str, Any], plain: bool
) -> None:
    out = io.BytesIO()
    Image.new("RGB", (64, 48)).save(out, format, **options)
    assert is_plain(out.getvalue(), LimitSettings()) is plain
    assert not is_plain(out.getvalue()[:20], LimitSettings())
    assert not is_plain(bombs.png_of(20_000, 20_000), LimitSettings())
