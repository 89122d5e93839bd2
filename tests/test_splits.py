"""Which pictures a training reads: fractions held out by chance, labels, sources, paths, squares."""

from __future__ import annotations

from pathlib import Path

import pytest

from colorize.config import UsageError, load_settings
from colorize.training.photos import read_photos
from colorize.training.settings import DataSettings, SplitSettings, TrainSettings
from colorize.training.splits import assign_splits
from tests.pictures import labeled_archive


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return labeled_archive(tmp_path)


def test_shares_are_exact_and_complete() -> None:
    splits = assign_splits([f"bird/{i}.jpg" for i in range(5000)], SplitSettings(val=0.1))
    assert [splits.count(s) for s in ("train", "val", "test")] == [4500, 500, 0]
    splits = assign_splits([f"flower/{i}.jpg" for i in range(8189)], SplitSettings(val=0.07, test=0.3))
    assert [splits.count(s) for s in ("train", "val", "test")] == [5159, 573, 2457]


def test_a_picture_stays_in_its_split_whatever_the_order() -> None:
    keys = [f"{i}.jpg" for i in range(100)]
    settings = SplitSettings(val=0.2, test=0.2)
    forward = dict(zip(keys, assign_splits(keys, settings), strict=True))
    backward = dict(zip(keys[::-1], assign_splits(keys[::-1], settings), strict=True))
    assert forward == backward
    assert forward != dict(zip(keys, assign_splits(keys, SplitSettings(val=0.2, test=0.2, seed=1)), strict=True))


def test_something_must_be_left_to_train_on() -> None:
    with pytest.raises(UsageError, match="leave no pictures"):
        load_settings(TrainSettings, overrides=["data.split={val: 0.5, test: 0.5}"])


def test_pictures_are_held_out_of_an_archive_that_says_nothing(archive: Path) -> None:
    settings = DataSettings(short_side=32, split=SplitSettings(val=0.25))
    assert [len(read_photos(archive, split, settings)) for split in ("train", "val")] == [30, 10]
    with pytest.raises(UsageError, match=r"data\.split=\{val"):
        read_photos(archive, "val", DataSettings(short_side=32))


def test_only_birds(archive: Path) -> None:
    settings = DataSettings(short_side=32, labels=["bird"], split=SplitSettings(val=0.25))
    assert [len(read_photos(archive, split, settings)) for split in ("train", "val")] == [15, 5]
    with pytest.raises(UsageError, match=r"no picture has label 'birds' \(did you mean 'bird'\?\)"):
        read_photos(archive, "train", DataSettings(labels=["birds"]))
    with pytest.raises(UsageError, match="no column 'source'"):
        read_photos(archive, "train", DataSettings(sources=["flowers"]))


def test_squares_only(archive: Path) -> None:
    photos = read_photos(archive, "train", DataSettings(short_side=32, aspects=[1.0]))
    assert [bucket.shape for bucket in photos.buckets] == [(40, 3, 32, 32)]


def test_only_what_lies_in_certain_folders(archive: Path) -> None:
    assert len(read_photos(archive, "train", DataSettings(short_side=32, include=["bird/1*", "ship/*9.png"]))) == 9
    with pytest.raises(UsageError, match="no picture matches"):
        read_photos(archive, "train", DataSettings(include=["birds/*"]))
