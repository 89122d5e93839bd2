"""Training on Ray Train, end to end: from color pictures to weights that color, faults survived on the way."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data
import torch
from PIL import Image
from ray.train import ScalingConfig

from colorize.cli import EXIT_FAULT, EXIT_USAGE, run
from colorize.datasets.settings import SourceSettings
from colorize.datasets.sources import open_source
from colorize.errors import UsageError
from colorize.models.unet import gamut_bins
from colorize.storage.root import Storage
from colorize.train import launch, loop
from colorize.train.epoch_plan import EpochPlan
from colorize.train.feed import is_wanted, square
from colorize.train.loop import LoopConfig, Progress, TrainingFailedError, shard_batches, training_progress
from colorize.train.settings import DataSettings, ModelSettings, TrainerSettings, TrainSettings
from colorize.train.step import create_state
from tests.conftest import S3

RECIPE = "configs/train/unet.yaml"
SMALL = [
    "model.pretrained=false", "model.frozen_stages=0", "data.short_side=64",
    "trainer.batch_size=10", "trainer.sizes=[64]", "validation.size=64",
    "validation.limit=8", "validation.samples=2", "trainer.shuffle_rows=32",
]  # fmt: skip


def options(*more: str) -> list[str]:
    """Of a run of `unet` that is over in seconds."""
    return ["--config", RECIPE, *(word for setting in (*SMALL, *more) for word in ("--set", setting))]


def crops(astronaut: Image.Image, count: int) -> list[bytes]:
    """Small color JPEGs, no two alike."""
    random, encoded = np.random.default_rng(0), []
    for left, top in random.integers(0, 400, (count, 2)):
        buffer = io.BytesIO()
        astronaut.crop((left, top, left + 100, top + 80)).save(buffer, "JPEG")
        encoded.append(buffer.getvalue())
    return encoded


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, astronaut: Image.Image) -> Path:
    """80 pictures, the last 12 of which are held out by a column, and two that are broken."""
    images = [*crops(astronaut, 80), b"broken", b""]
    path = tmp_path_factory.mktemp("data") / "photos.parquet"
    split = ["train"] * 68 + ["val"] * 12 + ["train"] * 2
    pq.write_table(pa.table({"image": images, "split": split}), path, row_group_size=20)
    return path


def metrics(storage: Storage) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(storage.read("metrics.csv").decode())))


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_a_run_from_and_to_a_bucket_leaves_weights_that_color(
    s3: S3, archive: Path, astronaut: Image.Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two workers; broken pictures are left out."""
    Storage("s3://scans/photos").write("photos.parquet", archive.read_bytes())
    arguments = ["train", "--data", "s3://scans/photos", "--output", "s3://colored/run"]
    more = options("trainer.epochs=2", "trainer.workers=2", "trainer.cpus_per_worker=1", "data.tolerate_broken=0.1")
    assert run([*arguments, *more]) == 0

    folder = Storage("s3://colored/run")
    names = {entry.name for entry in folder.entries() if not entry.name.startswith("_ray/")}
    assert names == {
        "config.yaml", "metrics.csv", "curves.png", "train.log", "best.safetensors",
        "checkpoints/epoch-001.safetensors", "checkpoints/epoch-002.safetensors",
        "samples/epoch-001.png", "samples/epoch-002.png",
    }  # fmt: skip
    assert [row["epoch"] for row in metrics(folder)] == ["1", "2"]
    first, second = (float(row["cross_entropy"]) for row in metrics(folder))  # `loss` weighs rare colors: noisy
    assert second < first
    assert Image.open(io.BytesIO(folder.read("samples/epoch-002.png"))).width > 100
    assert "epoch 2 done" in capsys.readouterr().out

    astronaut.convert("L").save(tmp_path / "grey.jpg")
    assert run(["photo", str(tmp_path / "grey.jpg"), "-o", str(tmp_path / "out"), "--model", "s3://colored/run"]) == 0
    assert run([*arguments, *more]) == EXIT_USAGE  # a run is there already


def rows_of_pictures(count: int) -> ray.data.Dataset:
    """Tiny pictures, each of a grey level of its own."""
    rgb = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    return ray.data.from_numpy(np.array_split(rgb, 7)).map_batches(
        lambda batch: {"rgb": batch["data"], "broken": np.zeros(len(batch["data"]), bool)}
    )


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(("workers", "pictures"), [(1, 83), (2, 84)])
def test_each_picture_is_seen_once_an_epoch(workers: int, pictures: int) -> None:
    settings = TrainSettings(trainer=TrainerSettings(batch_size=10, shuffle_rows=20))
    shards = rows_of_pictures(pictures).streaming_split(workers, equal=True)
    with ThreadPoolExecutor(workers) as pool:
        batches = list(pool.map(lambda shard: list(shard_batches(shard, settings, workers, epoch=1)), shards))

    seen = [round(float(rgb.mean()) * 255) for of_one in batches for batch in of_one for rgb in batch]
    assert sorted(seen) == list(range(pictures))
    assert seen != sorted(seen)
    assert len({len(of_one) for of_one in batches}) == 1  # as many steps for each


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_one_worker_and_two_reach_the_same_loss(archive: Path, tmp_path: Path) -> None:
    errors = []
    for workers in (1, 2):
        output = tmp_path / str(workers)
        more = options(
            "model={name: lab_cnn, args: {widths: [8, 16, 16], dropout: 0.0}}", "trainer.epochs=3", "loss.name=mse",
            f"trainer.workers={workers}", "trainer.cpus_per_worker=1", "data.tolerate_broken=0.1", "precision=float32",
            "augment.min_area=1.0",
        )  # fmt: skip
        assert run(["train", "--data", str(archive), "--output", str(output), *more]) == 0
        errors.append(float(metrics(Storage(output))[-1]["val_mse"]))
    assert errors[1] == pytest.approx(errors[0], rel=0.1)


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("name", ["palette_cnn", "gan", "superres_cnn"])
def test_recipes_with_a_step_of_their_own_run_on_ray(name: str, archive: Path, tmp_path: Path) -> None:
    """Palette, adversary, a target larger than the input, a measurement on test pictures: as the file says."""
    smaller = {"gan": ["model.args={width: 8, canvas: 32}", "trainer.sizes=[32]", "validation.size=32"]}.get(name, [])
    settings = [
        *smaller, "trainer.epochs=1", "data.limit=32", "trainer.batch_size=16", "data.tolerate_broken=0.1",
        "data.split={val: 0.2, test: 0.2}", "validation.test=true",
    ]  # fmt: skip
    words = [
        "train",
        "--config",
        f"configs/train/{name}.yaml",
        "--data",
        str(archive),
        "--output",
        str(tmp_path / "run"),
    ]
    assert run([*words, *(word for setting in settings for word in ("--set", setting))]) == 0

    tested = json.loads((tmp_path / "run/test.json").read_text())
    assert 0 < tested["mse"] < 1
    Image.new("L", (40, 30), 128).save(tmp_path / "grey.png")
    assert (
        run(["photo", str(tmp_path / "grey.png"), "--run", str(tmp_path / "run"), "-o", str(tmp_path / "out.png")]) == 0
    )


@pytest.mark.cluster
@pytest.mark.timeout(420)
def test_a_run_that_was_killed_goes_on_where_it_was(archive: Path, tmp_path: Path) -> None:
    """Every process of the run dies at once in mid-epoch, as with a machine."""
    output = tmp_path / "run"
    words = [
        "train",
        "--data",
        str(archive),
        "--output",
        str(output),
        *options("trainer.epochs=3", "trainer.retries=0"),
    ]
    command = [sys.executable, "-m", "colorize", *words]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, start_new_session=True, stdout=log, stderr=log)
        deadline = time.monotonic() + 180
        while not list(output.glob("_ray/checkpoint_*/state.pt")):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        kill_tree(process.pid)
    subprocess.run([*command, "--resume"], check=True, timeout=240)

    rows = metrics(Storage(output))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert sorted(float(row["seconds"]) for row in rows) == [float(row["seconds"]) for row in rows]


def kill_tree(pid: int) -> None:
    """Kills a process and all that it started, sessions of their own included."""
    import psutil

    process = psutil.Process(pid)
    for victim in [*process.children(recursive=True), process]:
        try:
            os.kill(victim.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait(30)


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_what_cannot_be_trained_stops_with_a_reason(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At once, although workers that die are replaced."""
    settings = options(
        "trainer.epochs=1", "data.tolerate_broken=0.5", "optimizer.clip_norm=1e30", "optimizer.learning_rate=1e30"
    )
    assert run(["train", "--data", str(archive), "--output", str(tmp_path / "run"), *settings]) == EXIT_FAULT

    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert "the loss is nan" in last


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_too_many_broken_pictures_end_an_epoch() -> None:
    broken = rows_of_pictures(40).map_batches(lambda batch: batch | {"broken": batch["broken"] | True})
    (shard,) = broken.streaming_split(1, equal=True)
    settings = TrainSettings(data=DataSettings(tolerate_broken=0.1), trainer=TrainerSettings(batch_size=10))
    with pytest.raises(TrainingFailedError, match="40 of 40 pictures are broken"):
        list(shard_batches(shard, settings, 1, epoch=1))


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("trainer.workers=50", "the cluster has 4 CPUs"),
        ("trainer.device=cuda", "need a GPU each"),
        ("model.name=unett", "did you mean 'unet'"),
        ("data.image_column=picture", "no column 'picture'"),
        ("trainer.epoch=3", "did you mean 'trainer.epochs'"),
        ("validation.best=mse", "this network's figures are psnr, "),
        ("loss.name=bce", "Unet can be trained on auto only"),
    ],
)
def test_wrong_usage_is_said_in_one_line(
    setting: str, message: str, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--data", str(archive), "--output", str(tmp_path / "run")]
    assert run([*words, *options(setting)]) == EXIT_USAGE

    text = capsys.readouterr().err
    assert message in text
    assert text.count("\n") == 1
    assert not (tmp_path / "run/config.yaml").exists()  # the corrected command finds no run


@pytest.mark.parametrize(
    ("error", "tried"),
    [(loop.TrainingFailedError("nan"), 1), (UsageError("no such file"), 1), (RuntimeError("a worker died"), 2)],
)
def test_only_what_may_pass_is_tried_again(
    error: Exception, tried: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray calls the loop again after any error; a hopeless one is remembered in the run folder."""
    attempts = []

    def fail(config: LoopConfig) -> None:
        attempts.append(config)
        raise error

    monkeypatch.setattr(loop, "_train", fail)
    config = LoopConfig(TrainSettings(), Storage(tmp_path), None, pictures=1)
    for _ in range(2):
        with contextlib.suppress(type(error)):
            loop.train_loop({"config": config})
    assert len(attempts) == tried


@pytest.mark.parametrize("known", [True, False])
def test_a_resumed_run_weighs_colors_as_it_began_to(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the driver has counted this time; a checkpoint of an earlier version does not say how it began."""
    model = ModelSettings(args={"widths": [16, 16, 16], "context": 32, "context_blocks": 1, "grid": 20.0})
    settings = TrainSettings(model=model)
    begun, counted = torch.rand(2, len(gamut_bins(20.0)))
    progress = {"epoch": 3} | ({"prior": begun} if known else {})
    saved = {"state": create_state(settings, prior_Q=begun).state_dict(), "progress": progress}
    for name, replaced in {
        "_last_checkpoint": lambda: saved,
        "get_device": lambda: torch.device("cpu"),
        "prepare_model": lambda objective, **_: objective,
    }.items():
        monkeypatch.setattr(loop, name, replaced)
    state, found = loop._start(LoopConfig(settings, Storage("unused"), counted, pictures=1))

    expected = create_state(settings, prior_Q=begun if known else counted).objective
    assert torch.equal(state.objective.get_buffer("weights_Q"), expected.get_buffer("weights_Q"))
    assert found.epoch == 3


def test_a_training_without_a_recipe_is_told_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--data", "photos", "--output", "run"]) == EXIT_USAGE
    assert "--config configs/train/unet.yaml" in capsys.readouterr().err


def test_progress_follows_what_an_epoch_really_holds() -> None:
    """The driver's estimate in the first epoch, then the last epoch's count, and never beyond `epoch_steps`."""
    settings = TrainSettings(trainer=TrainerSettings(epochs=2, batch_size=10))
    config = LoopConfig(settings, Storage("unused"), None, pictures=200)
    assert [training_progress(config, Progress(epoch=1), seen) for seen in (0, 100, 200, 300)] == [0, 0.25, 0.5, 0.5]
    assert training_progress(config, Progress(epoch=2, pictures=100), 50) == 0.75
    short = TrainSettings(trainer=TrainerSettings(epochs=1, batch_size=10, epoch_steps=4))
    assert training_progress(LoopConfig(short, Storage("unused"), None, 200), Progress(epoch=1), 20) == 0.5


def test_workers_on_gpus_can_sum_what_lies_in_memory_too() -> None:
    """As the pixels of a palette do: with NCCL alone the sum fails, also of one worker."""
    assert launch._torch_config(ScalingConfig(use_gpu=True)).backend == "cpu:gloo,cuda:nccl"
    assert launch._torch_config(ScalingConfig()).backend == "gloo"


def test_workers_fit_what_the_cluster_can_grow_to() -> None:
    now, most = {"CPU": 16.0, "GPU": 1.0}, {"CPU": 128, "GPU": 8}
    four = TrainerSettings(workers=4)
    scaling = launch._scaling(four, now, most)
    assert (scaling.num_workers, scaling.use_gpu) == (4, True)
    with pytest.raises(UsageError, match="the cluster has 1: lower"):
        launch._scaling(four, now, {})
    with pytest.raises(UsageError, match="the cluster has 8: lower"):
        launch._scaling(TrainerSettings(workers=9), now, most)


def test_what_is_limited_comes_in_the_same_order_each_time() -> None:
    def ordered(settings: TrainSettings) -> list[str]:
        config = launch._data_config(["train", "val", "test"], settings)
        return [name for name in ("train", "val", "test") if config._resolve_execution_options(name).preserve_order]

    assert ordered(TrainSettings()) == ["val"]
    assert ordered(TrainSettings(data=DataSettings(limit=10))) == ["train", "val"]


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_colors_are_counted_on_the_same_pictures_in_every_run(archive: Path) -> None:
    settings = TrainSettings(data=DataSettings(short_side=32, balance=0.5))
    source = open_source(str(archive), SourceSettings())
    plan = EpochPlan(pictures=40, fraction=0.5, shares={"": 0.5})
    first, second = (launch._prior(source, gamut_bins(20.0), settings, plan) for _ in range(2))
    assert first.sum() > 0
    assert torch.equal(first, second)


def test_a_sample_takes_the_first_pictures_of_a_block() -> None:
    names, counts = ["a", "b", "c"], [4, 4, 4]
    cut = launch.first_units(pa.table({"name": names, "count": counts}), 6)
    assert cut.to_pydict() == {"name": ["a", "b"], "count": [4, 2]}


def test_pictures_are_chosen_by_label_source_and_path() -> None:
    row = {"path": "birds/1.jpg", "source": "cifar"}
    assert is_wanted(row, DataSettings())
    assert is_wanted(row, DataSettings(labels=["birds"], sources=["cifar"], include=["*/1.jpg"]))
    assert not is_wanted(row | {"label": "cat"}, DataSettings(labels=["birds"]))
    assert not is_wanted(row, DataSettings(sources=["flowers"]))
    assert not is_wanted(row, DataSettings(include=["*.png"]))
    assert is_wanted(row | {"label": 0}, DataSettings(labels=["0"]))


def test_a_square_moves_along_the_longer_side(astronaut: Image.Image) -> None:
    buffer = io.BytesIO()
    wide = np.zeros((50, 150, 3), np.uint8)
    wide[:, 100:] = 255
    Image.fromarray(wide).save(buffer, "PNG")

    assert [int(s.mean()) for p in (0.0, 1.0) if (s := square(buffer.getvalue(), 32, p)) is not None] == pytest.approx(
        [0, 255], abs=2
    )
    assert square(b"broken", 32, 0.5) is None


def test_training_pictures_are_upright_and_of_eight_bits() -> None:
    turned, deep = io.BytesIO(), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side: its left is shown on top
    half = np.zeros((64, 64, 3), np.uint8)
    half[:, 32:] = 255
    Image.fromarray(half).save(turned, "JPEG", exif=exif)
    Image.fromarray(np.full((64, 64), 127 << 8, np.uint16)).save(deep, "PNG")

    upright, grey = square(turned.getvalue(), 32, 0.5), square(deep.getvalue(), 32, 0.5)
    assert upright is not None
    assert upright[:12].mean() < 10 < 245 < upright[20:].mean()
    assert grey is not None
    assert grey.mean() == 127
