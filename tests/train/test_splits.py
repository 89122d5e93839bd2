"""Selection of training images: splits, labels, sources, paths, limits."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from colorize.datasets.readers import Raw
from colorize.datasets.sources import Source
from colorize.datasets.splits import Split, SplitSettings, split_of, split_row
from colorize.errors import UsageError
from colorize.settings import load_settings
from colorize.train import epoch_plan
from colorize.train.epoch_plan import EpochPlan, plan_epoch
from colorize.train.images import DecodedImages, collect_images
from colorize.train.reading import open_training_source, read_rows, shuffled_blocks, split_reader
from colorize.train.settings import DataSettings, ModelSettings, TrainSettings
from tests.images import labeled_archive

SPLITS: tuple[Split, ...] = ("train", "val", "test")
RECIPES = Path(__file__).parents[2] / "configs/train"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return labeled_archive(tmp_path)


def test_splits_come_from_column_folder_or_archive() -> None:
    assert split_of({"split": "val", "path": "train/a.jpg"}) == "val"
    assert split_of({"split": "holdout", "path": "a.jpg"}) == "test"  # unknown: not for training
    assert split_of({"path": "flowers/test/a.jpg"}) == "test"
    assert split_of({"path": "test.parquet#7", "archive": "test.parquet"}) == "test"
    assert split_of({"path": "a", "archive": "data/validation-00000-of-00002.parquet"}) == "val"


def test_nulls_are_ignored() -> None:
    """Otherwise all rows with a null path would be in one split."""
    nothing = {"path": None, "split": None, "source": None}
    rows = [split_row(Raw(f"a.parquet#{i}", part="a.parquet", columns=nothing), of_several=True) for i in range(100)]
    assert rows[3] == {"path": "a.parquet#3", "archive": "a.parquet"}
    assert len({split_of(row) for row in rows}) > 1


def test_split_fractions_are_approximate_and_complete() -> None:
    splits = [
        split_of({"path": f"flower/{i}.jpg", "split": "train"}, SplitSettings(val=0.07, test=0.3)) for i in range(8189)
    ]
    assert [splits.count(s) for s in ("train", "val", "test")] == pytest.approx([5159, 573, 2457], abs=100)


def test_an_image_stays_in_its_split() -> None:
    paths = [f"{i}.jpg" for i in range(100)]

    def cut(seed: int) -> list[str]:
        return [split_of({"path": path}, SplitSettings(val=0.2, test=0.2, seed=seed)) for path in paths]

    assert cut(0) == cut(0) != cut(1)


def test_a_given_test_split_is_kept_and_the_rest_divided() -> None:
    settings = SplitSettings(val=0.5, of="train")
    named = {"archive": "train.parquet"}
    assert {split_of({"path": str(i), "archive": "test.parquet"}, settings) for i in range(50)} == {"test"}
    assert {split_of({"path": str(i)} | named, settings) for i in range(50)} == {"train", "val"}
    assert {split_of({"path": str(i)}, settings) for i in range(50)} == {"train", "val"}  # no split: counts as train


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_no_recipe_trains_on_held_out_images(recipe: Path) -> None:
    cut = load_settings(TrainSettings, recipe).data.split
    assert {split_of({"path": f"test.parquet#{i}", "archive": "test.parquet"}, cut) for i in range(99)} == {"test"}
    assert {split_of({"path": f"{i}.jpg", "split": "val"}, cut) for i in range(99)} == {"val"}
    assert {"train", "val"} <= {split_of({"path": f"{i}.jpg"}, cut) for i in range(99)}


def test_an_empty_training_split_is_refused() -> None:
    with pytest.raises(UsageError, match="leave no images"):
        load_settings(TrainSettings, overrides=["data.split={val: 0.5, test: 0.5}"])


def test_images_of_an_archive_without_splits_are_held_out(archive: Path) -> None:
    settings = DataSettings(short_side=32, split=SplitSettings(val=0.25))
    counts = [len(read(archive, split, settings)) for split in SPLITS]
    assert counts == pytest.approx([30, 10, 0], abs=5)
    assert sum(counts) == 40
    assert counts[2] == 0


def open_for_training(path: Path) -> Source:
    return open_training_source(str(path), DataSettings())


def read(path: Path, split: Split, data: DataSettings) -> DecodedImages:
    """A split's images, as read by training."""
    source, settings = open_for_training(path), TrainSettings(data=data)
    reader = split_reader(source, split, settings, plan_epoch(source, data))
    return collect_images(read_rows(shuffled_blocks(source, settings), reader, threads=1), data)


def test_an_epoch_is_planned_by_its_images(archive: Path) -> None:
    """40 images of two labels: split, filter and limit count, not the archive's size."""
    source, split = open_for_training(archive), SplitSettings(val=0.25)
    for settings in (DataSettings(split=split), DataSettings(split=split, labels=["bird"])):
        assert plan_epoch(source, settings).images == len(read(archive, "train", settings))
    assert plan_epoch(source, DataSettings(limit=7)).images == 7


def test_few_images_cause_a_warning_unless_fine_tuning() -> None:
    assert "40 images to train on are few" in EpochPlan(40).warning(ModelSettings())
    assert EpochPlan(40).warning(ModelSettings(weights="default")) == ""
    assert EpochPlan(1000).warning(ModelSettings()) == ""


def test_an_empty_epoch_is_refused(archive: Path) -> None:
    """Each filter fits some images, both together none."""
    with pytest.raises(UsageError, match=r"no image is left to train on: see data\.labels"):
        plan_epoch(open_for_training(archive), DataSettings(labels=["bird"], include=["ship/*"]))


def test_balance_samples_large_sources_less(tmp_path: Path) -> None:
    columns = {"image": [b""] * 100, "source": ["many"] * 80 + ["few"] * 20, "split": ["train", "val"] * 50}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    plan = plan_epoch(open_for_training(tmp_path / "a.parquet"), DataSettings(balance=0.5))
    assert plan.rates == {"many": pytest.approx(5 / 6), "few": pytest.approx(5 / 3)}
    assert plan.images == 50  # as many as there are: 33 of the 40, 17 of the 10


def test_large_sources_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch_plan, "MAX_PARTS", 2)
    monkeypatch.setattr(epoch_plan, "MAX_ROWS", 30)
    for name in "abcd":
        columns = {"image": [b""] * 40, "split": (["train"] * 3 + ["val"]) * 10}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    assert plan_epoch(open_for_training(tmp_path), DataSettings()).images == pytest.approx(120, abs=12)


def test_a_folder_is_planned_by_its_file_names(tmp_path: Path) -> None:
    for name in ("train/a.jpg", "train/b.jpg", "val/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert plan_epoch(open_for_training(tmp_path), DataSettings()).images == 2


def test_only_birds(archive: Path) -> None:
    settings = DataSettings(short_side=32, labels=["bird"], split=SplitSettings(val=0.25))
    assert sum(len(read(archive, split, settings)) for split in SPLITS) == 20
    with pytest.raises(UsageError, match=r"no image has label 'birds' \(did you mean 'bird'\?\)"):
        plan_epoch(open_for_training(archive), DataSettings(labels=["birds"]))
    with pytest.raises(UsageError, match=r"no image has source 'flowers'"):
        plan_epoch(open_for_training(archive), DataSettings(sources=["flowers"]))


def test_squares_only(archive: Path) -> None:
    images = read(archive, "train", DataSettings(short_side=32, aspects=[1.0]))
    assert [bucket.shape[1:] for bucket in images.buckets] == [(32, 32, 3)]


def test_only_certain_folders(archive: Path) -> None:
    settings = DataSettings(short_side=32, include=["bird/*", "ship/*9.png"])
    assert sum(len(read(archive, split, settings)) for split in SPLITS) == 24
    with pytest.raises(UsageError, match=r"no image matches \['birds/\*'\]; a path is for example 'bird/0.png'"):
        plan_epoch(open_for_training(archive), DataSettings(include=["birds/*"]))
