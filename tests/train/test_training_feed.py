"""Feeds: images in a few shapes, in memory or streamed, sampled by source."""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from colorize.errors import UsageError
from colorize.train.decode import Row, cut, decode_image, shapes
from colorize.train.epoch_plan import plan_epoch
from colorize.train.feed import Feed, MemoryFeed, StreamFeed, pass_batches, shuffled
from colorize.train.images import DecodedImages, collect_images
from colorize.train.reading import open_training_source
from colorize.train.settings import DataSettings, TrainSettings
from colorize.train.single import open_feed

DATA = DataSettings(short_side=48)
SHAPES = [(64, 48), (48, 48), (48, 64)]
CPU = torch.device("cpu")


def level(number: int, shape: tuple[int, int] = (16, 16)) -> Row:
    """An image of one grey level, which identifies it."""
    return Row(np.full((*shape, 3), number, np.uint8))


def levels(batches: Iterator[torch.Tensor], count: int) -> list[int]:
    """The grey levels of the first batches."""
    return [round(float(rgb.mean()) * 255) for batch in itertools.islice(batches, count) for rgb in batch]


def encoded(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG" if "exif" in options else "PNG", **options)
    return buffer.getvalue()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Twelve images in two splits, of three aspects and two sources."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(12):
        size = ((64, 64), (88, 64), (64, 88))[index % 3]
        image = encoded(Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize(size))
        split, source = ("val" if index >= 8 else "train"), ("rare" if index == 0 else "common")
        rows.append({"image": image, "split": split, "source": source})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "photos.parquet")
    return tmp_path / "photos.parquet"


def feed_of(archive: Path, **data: object) -> Feed:
    settings = TrainSettings(data=DataSettings.model_validate({"short_side": 48, **data}))
    source = open_training_source(str(archive), settings.data)
    return open_feed(source, settings, plan_epoch(source, settings.data), CPU)


class TestDecoding:
    def test_shapes_are_those_of_the_aspects(self) -> None:
        assert shapes(DATA) == SHAPES

    @pytest.mark.parametrize(
        ("size", "shape"), [((100, 90), (48, 48)), ((120, 90), (48, 64)), ((90, 200), (64, 48)), ((1, 1), (48, 48))]
    )
    def test_the_nearest_shape_is_taken(self, size: tuple[int, int], shape: tuple[int, int]) -> None:
        image = decode_image(encoded(Image.new("RGB", size, "red")), SHAPES)
        assert image is not None
        assert image.shape == (*shape, 3)

    def test_the_aspect_is_kept(self) -> None:
        """A circle stays a circle; the crop is centered."""
        ys, xs = np.mgrid[:96, :160]
        circle = ((ys - 48) ** 2 + (xs - 80) ** 2 < 40**2).astype(np.uint8) * 255
        image = decode_image(encoded(Image.fromarray(circle)), SHAPES)
        assert image is not None
        inside = image[..., 0] > 128
        assert inside.any(axis=0).sum() == pytest.approx(inside.any(axis=1).sum(), abs=1)
        assert abs(np.argwhere(inside).mean(axis=0) - [23.5, 31.5]).max() < 0.6

    def test_sizes_near_a_shape_are_supported(self) -> None:
        """Regression: rounding made Pillow fail with `box offset can't be negative`."""
        for short_side, aspect in itertools.product((128, 144), (0.75, 1.0, 1.375)):
            (shape,) = shapes(DataSettings(short_side=short_side, aspects=[aspect]))
            for width, height in itertools.product(
                range(shape[1] - 3, shape[1] + 4), range(shape[0] - 3, shape[0] + 4)
            ):
                assert cut(Image.new("RGB", (width, height)), shape).shape == (*shape, 3)

    def test_images_are_upright_uint8(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # stored on its side: its left is displayed on top
        half = np.zeros((64, 64, 3), np.uint8)
        half[:, 32:] = 255
        upright = decode_image(encoded(Image.fromarray(half), exif=exif), SHAPES)
        grey = decode_image(encoded(Image.fromarray(np.full((64, 64), 127 << 8, np.uint16))), SHAPES)
        assert upright is not None
        assert upright[:18].mean() < 10 < 245 < upright[30:].mean()
        assert grey is not None
        assert grey.mean() == 127

    @pytest.mark.parametrize("data", [b"", b"broken"])
    def test_an_undecodable_file_is_none(self, data: bytes) -> None:
        assert decode_image(data, SHAPES) is None


class TestMemory:
    def test_each_image_is_drawn_once_per_round(self) -> None:
        images = collect_images((level(number, ((16, 16), (16, 32))[number % 2]) for number in range(24)), DATA)
        batches = images.random_batches(4, "seed")
        rounds = [levels(batches, 6) for _ in range(2)]
        assert sorted(rounds[0]) == sorted(rounds[1]) == list(range(24))
        assert rounds[0] != rounds[1] != sorted(rounds[1])

    def test_the_remainder_of_a_round_starts_the_next(self) -> None:
        """Batches are always full, and all images are drawn equally often in the long run."""
        images = collect_images((level(number, ((16, 16), (16, 32))[number % 2]) for number in range(10)), DATA)
        batches = list(itertools.islice(images.random_batches(4, "seed"), 10))
        assert {len(batch) for batch in batches} == {4}
        counts = Counter(levels(iter(batches), 10))
        assert set(counts) == set(range(10))
        assert max(counts.values()) - min(counts.values()) <= 1

    def test_sampling_can_start_at_any_batch(self) -> None:
        images = collect_images(map(level, range(10)), DATA)
        whole = levels(images.random_batches(3, "seed"), 20)
        assert levels(images.random_batches(3, "seed", start=13), 7) == whole[39:]
        assert levels(images.random_batches(3, "another"), 20) != whole

    def test_rates_set_how_often_an_image_is_drawn(self) -> None:
        rows = [Row(level(number).rgb, rate) for number, rate in enumerate((0.5, 1.0, 2.5, 1.0))]
        batches = collect_images(rows, DATA).random_batches(5, "seed")
        counts = Counter(levels(batches, 200))
        assert [counts[number] / 200 for number in range(4)] == pytest.approx([0.5, 1.0, 2.5, 1.0], rel=0.15)

    def test_batches_are_rgb_in_range(self, archive: Path) -> None:
        batch = next(feed_of(archive).batches())
        assert (batch.shape[1], batch.dtype) == (3, torch.float32)
        assert 0 <= batch.min() <= batch.max() <= 1

    def test_splits_and_shapes_are_kept_apart(self, archive: Path) -> None:
        feed = feed_of(archive)
        assert isinstance(feed, MemoryFeed)
        assert (feed.epoch_images, len(feed.held_out("val")), len(feed.held_out("test"))) == (8, 4, 0)
        assert [bucket.shape[1:] for bucket in feed.kept.buckets] == [(48, 48, 3), (48, 64, 3), (64, 48, 3)]

    def test_balance_draws_rare_sources_more_often(self, archive: Path) -> None:
        feed = feed_of(archive, balance=0.0)
        assert isinstance(feed, MemoryFeed)
        rates = torch.cat(feed.kept.rates).sort().values
        assert rates.tolist() == pytest.approx([4 / 7] * 7 + [4.0])  # both sources come four times in a round of eight

    def test_in_order_each_image_is_read_once(self) -> None:
        images = collect_images((level(number, ((16, 16), (16, 32))[number % 2]) for number in range(9)), DATA)
        assert levels(images.in_order(2), 9) == [0, 2, 4, 6, 8, 1, 3, 5, 7]
        assert levels(images.singles(), 9) == list(range(9))  # alternating shapes

    @pytest.mark.slow
    def test_corrupt_images_are_skipped_up_to_the_tolerance(self, archive: Path) -> None:
        rows = pq.read_table(archive).to_pylist()
        rows[0]["image"], rows[1]["image"] = b"broken", None
        pq.write_table(pa.Table.from_pylist(rows), archive)
        feed = feed_of(archive)
        assert isinstance(feed, MemoryFeed)
        assert len(feed.kept) == 6
        with pytest.raises(UsageError, match=r"1 of 1 images are broken: more than data\.tolerate_broken allows"):
            feed_of(archive, tolerate_broken=0.001)

    def test_only_corrupt_images_are_an_error(self) -> None:
        with pytest.raises(UsageError, match="all 3 images are corrupt"):
            collect_images([Row(None)] * 3, DATA)

    def test_images_may_be_structs_as_dataset_hubs_have_them(self, archive: Path) -> None:
        rows = pq.read_table(archive).to_pylist()
        structs = [row | {"image": {"bytes": row["image"], "path": "a.jpg"}} for row in rows]
        pq.write_table(pa.Table.from_pylist(structs), archive)
        assert feed_of(archive).epoch_images == 8

    def test_a_folder_of_files_is_read_as_well(self, archive: Path, tmp_path: Path) -> None:
        for number, row in enumerate(pq.read_table(archive).to_pylist()):
            file = tmp_path / "photos" / str(row["split"]) / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(row["image"])
        feed = feed_of(tmp_path / "photos")
        assert (feed.epoch_images, len(feed.held_out("val"))) == (8, 4)

    def test_a_limit_takes_the_same_images_each_time(self, archive: Path) -> None:
        kept = [feed_of(archive, limit=3) for _ in range(2)]
        first, second = (sorted(levels(feed.kept.in_order(1), 3)) for feed in kept if isinstance(feed, MemoryFeed))
        assert first == second
        assert len(first) == 3


class TestStream:
    def test_data_larger_than_memory_is_streamed(self, archive: Path) -> None:
        feed = feed_of(archive, memory_gb=1e-5)
        assert isinstance(feed, StreamFeed)
        assert feed.epoch_images == 8
        kept = feed_of(archive)
        assert isinstance(kept, MemoryFeed)
        known = {round(float(rgb.mean()), 5) for rgb in kept.kept.singles()}
        assert {round(float(rgb.mean()), 5) for rgb in next(feed.batches())} <= known

    @pytest.mark.parametrize("broken", [0, 7])
    @pytest.mark.parametrize("rows", [40, 43, 47])
    def test_equal_row_counts_give_equal_batch_counts(self, rows: int, broken: int) -> None:
        """For any shapes: workers with different numbers of steps would wait forever."""
        data = DataSettings(tolerate_broken=0.5)
        for seed in range(5):
            random = np.random.default_rng(seed)
            ordered = [level(number, SHAPES[random.integers(3)]) for number in range(rows)]
            for place in random.choice(rows, broken, replace=False):
                ordered[place] = Row(None)
            batches = list(pass_batches(iter(ordered), 8, data, random))
            assert [len(batch) for batch in batches] == [8] * (rows // 8)

    def test_each_image_is_read_once_per_epoch(self) -> None:
        batches = pass_batches(map(level, range(40)), 8, DATA, np.random.default_rng(0))
        seen = [int(rgb[0, 0, 0]) for batch in batches for rgb in batch]
        assert sorted(seen) == list(range(40))
        assert seen != sorted(seen)

    def test_an_epoch_of_few_images_is_filled(self) -> None:
        (batch,) = pass_batches(map(level, range(3)), 8, DATA, np.random.default_rng(0))
        assert {int(rgb[0, 0, 0]) for rgb in batch} == {0, 1, 2}

    def test_too_many_corrupt_images_end_an_epoch(self) -> None:
        rows = [level(0)] * 60 + [Row(None)] * 40
        with pytest.raises(UsageError, match="40 of 100 images are broken"):
            list(pass_batches(iter(rows), 8, DataSettings(tolerate_broken=0.1), np.random.default_rng(0)))
        with pytest.raises(UsageError, match="no image to train on for some worker"):
            list(pass_batches(iter([]), 8, DATA, np.random.default_rng(0)))

    def test_a_rate_sets_how_often_an_image_is_read(self, archive: Path) -> None:
        feed = feed_of(archive, memory_gb=0, balance=0.0)
        assert isinstance(feed, StreamFeed)
        passes = [list(feed.rows()) for _ in range(60)]
        counts = Counter(row.rate for rows in passes for row in rows)
        assert {round(rate, 2): count / 60 for rate, count in counts.items()} == {
            0.57: pytest.approx(4, rel=0.2), 4.0: pytest.approx(4, rel=0.2)
        }  # fmt: skip

    def test_a_small_buffer_shuffles_without_loss(self) -> None:
        rows = list(shuffled(map(level, range(200)), np.random.default_rng(0), most=20))
        seen = [int(row.rgb[0, 0, 0]) for row in rows if row.rgb is not None]
        assert sorted(seen) == list(range(200))
        assert seen != sorted(seen)


def test_an_empty_split_has_no_batches() -> None:
    assert list(DecodedImages([], []).in_order(4)) == []
