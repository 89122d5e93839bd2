"""Parts of training on Ray, without Ray: memory, workers, splits, choice of images."""

from __future__ import annotations

import time

import numpy as np
import pytest
from ray.train import ScalingConfig

from colorize.errors import UsageError
from colorize.train import job
from colorize.train.decode import Row
from colorize.train.display import LINE_SECONDS, Display
from colorize.train.epoch_plan import EpochPlan, fits_in_memory
from colorize.train.progress import Progress
from colorize.train.rows import rows_of, table_of
from colorize.train.selection import is_wanted
from colorize.train.settings import DataSettings, TrainerSettings, TrainSettings


def test_without_a_terminal_progress_is_printed_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Display() as display:
        for now[0] in (0.0, 1.0, LINE_SECONDS / 2, LINE_SECONDS, LINE_SECONDS + 1):
            display.progress(Progress(epoch=2, done=0.314, loss=3.21, rate=240.0, left=200.0))
        display.epoch({"epoch": 2.0, "loss": 3.2, "val_psnr": 25.0, "seconds": 9.0})
    first, second, third = (line[9:] for line in capsys.readouterr().err.splitlines())
    assert first == second == "epoch 2, 31.4 %, loss 3.2100, 240.0 images/s, 3m20s left"
    assert third == "epoch 2 done: loss 3.2, val_psnr 25"


def test_decoded_rows_survive_the_object_store() -> None:
    data, random = DataSettings(short_side=32), np.random.default_rng(0)
    sent = [Row(random.integers(0, 256, shape, np.uint8), 0.5) for shape in ((32, 32, 3), (32, 32, 3))]
    sent.append(Row(random.integers(0, 256, (32, 32, 3), np.uint8), 2.0))
    got = list(rows_of(table_of([*sent, Row(None)], data), data))
    assert [row.rate for row in got] == [0.5, 0.5, 2.0, 1.0]
    assert got[3].rgb is None
    for ours, theirs in zip(got[:3], sent, strict=True):
        np.testing.assert_array_equal(ours.rgb, theirs.rgb)


@pytest.mark.parametrize(("gb", "expected"), [(None, True), (1.0, False), (3.0, True)])
def test_images_are_cached_where_they_fit(gb: float | None, expected: bool) -> None:
    """40,000 images of 128 x 176 pixels are 2.7 GB; a third of the memory is for them."""
    assert fits_in_memory(EpochPlan(40_000), DataSettings(short_side=128, memory_gb=gb), memory=12e9) == expected
    assert not fits_in_memory(EpochPlan(40_000), DataSettings(short_side=128), memory=6e9)


def test_gpu_workers_can_reduce_cpu_tensors() -> None:
    """For example palette pixels: with NCCL alone the sum fails, even with one worker."""
    assert job._torch_config(ScalingConfig(use_gpu=True)).backend == "cpu:gloo,cuda:nccl"
    assert job._torch_config(ScalingConfig()).backend == "gloo"


def test_workers_are_limited_by_the_autoscaled_cluster() -> None:
    now, most = {"CPU": 16.0, "GPU": 1.0}, {"CPU": 128, "GPU": 8}
    four = TrainerSettings(workers=4)
    scaling = job.scaling_for(four, now, most)
    assert (scaling.num_workers, scaling.use_gpu) == (4, True)
    with pytest.raises(UsageError, match="the cluster has 1: lower"):
        job.scaling_for(four, now, {})
    with pytest.raises(UsageError, match="the cluster has 8: lower"):
        job.scaling_for(TrainerSettings(workers=9), now, most)


def test_limited_splits_keep_their_order() -> None:
    def ordered(settings: TrainSettings) -> list[str]:
        config = job._data_config(["train", "val", "test"], settings)
        return [name for name in ("train", "val", "test") if config._resolve_execution_options(name).preserve_order]

    assert ordered(TrainSettings()) == ["val"]
    assert ordered(TrainSettings(data=DataSettings(limit=10))) == ["train", "val"]


def test_images_are_chosen_by_label_source_and_path() -> None:
    row = {"path": "birds/1.jpg", "source": "cifar"}
    assert is_wanted(row, DataSettings())
    assert is_wanted(row, DataSettings(labels=["birds"], sources=["cifar"], include=["*/1.jpg"]))
    assert not is_wanted(row | {"label": "cat"}, DataSettings(labels=["birds"]))
    assert not is_wanted(row, DataSettings(sources=["flowers"]))
    assert not is_wanted(row, DataSettings(include=["*.png"]))
    assert is_wanted(row | {"label": 0}, DataSettings(labels=["0"]))
