"""Training on Ray Train, end to end, with faults."""

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
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch
from PIL import Image

from colorize.cli import EXIT_FAULT, EXIT_USAGE, run
from colorize.errors import EXIT_STOPPED, UsageError
from colorize.models.unet import gamut_bins
from colorize.storage.root import Storage
from colorize.train import worker
from colorize.train.loop import TrainingFailedError
from colorize.train.progress_actor import ProgressActor
from colorize.train.run import Record
from colorize.train.run_folder import RunFolder
from colorize.train.settings import DataSettings, ModelSettings, TrainSettings
from colorize.train.start import start_or_resume
from colorize.train.step import create_state
from colorize.train.worker import WorkerConfig
from tests.conftest import S3
from tests.training import Silent, run_alone

RECIPE = "configs/train/unet.yaml"
SMALL = [
    "model.pretrained=false", "model.frozen_stages=0", "data.short_side=64",
    "model.args={widths: [16, 16, 16], context: 32, context_blocks: 1, grid: 20.0}",
    "trainer.batch_size=10", "trainer.sizes=[64]", "validation.size=64",
    "validation.limit=8", "validation.samples=2",
]  # fmt: skip
TWO_WORKERS = "trainer.workers=2", "trainer.cpus_per_worker=1", "trainer.retries=0"  # a retry would hide a failure


def options(*more: str) -> list[str]:
    """Options for a run of `unet` that takes seconds."""
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
    """80 images, the last 12 of which are held out by a column, and two that are corrupt."""
    images = [*crops(astronaut, 80), b"broken", b""]
    path = tmp_path_factory.mktemp("data") / "photos.parquet"
    split = ["train"] * 68 + ["val"] * 12 + ["train"] * 2
    pq.write_table(pa.table({"image": images, "split": split}), path, row_group_size=20)
    return path


def metrics(storage: Storage) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(storage.read("metrics.csv").decode())))


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_a_run_between_buckets_leaves_a_usable_checkpoint(
    s3: S3, archive: Path, astronaut: Image.Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two workers; corrupt images are skipped."""
    Storage("s3://scans/photos").write("photos.parquet", archive.read_bytes())
    arguments = ["train", "--data", "s3://scans/photos", "--output", "s3://colored/run"]
    more = options("trainer.epochs=2", *TWO_WORKERS, "data.tolerate_broken=0.1")
    assert run([*arguments, *more, "--json"]) == 0

    folder, said = Storage("s3://colored/run"), capsys.readouterr()
    result = json.loads(said.out)
    assert (result["run"], result["best"], result["epochs"]) == (folder.url(), folder.url("best.safetensors"), 2)
    assert result["figures"]["cross_entropy"] == float(metrics(folder)[-1]["cross_entropy"])
    names = {entry.name for entry in folder.entries() if not entry.name.startswith("_ray/")}
    assert names == {
        "config.yaml", "metrics.csv", "curves.png", "state.pt", "best.safetensors",
        "checkpoints/epoch-001.safetensors", "checkpoints/epoch-002.safetensors",
        "samples/epoch-001.png", "samples/epoch-002.png",
    }  # fmt: skip
    assert [row["epoch"] for row in metrics(folder)] == ["1", "2"]
    first, second = (float(row["cross_entropy"]) for row in metrics(folder))  # `loss` weighs rare colors: noisy
    assert second < first
    assert Image.open(io.BytesIO(folder.read("samples/epoch-002.png"))).width > 100
    assert "epoch 2 done" in said.err

    astronaut.convert("L").save(tmp_path / "grey.jpg")
    assert run(["photo", str(tmp_path / "grey.jpg"), "-o", str(tmp_path / "out"), "--model", "s3://colored/run"]) == 0
    assert run([*arguments, *more]) == EXIT_USAGE  # a run exists already


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_one_worker_and_two_reach_the_same_loss(archive: Path, tmp_path: Path) -> None:
    """One process in memory, without Ray; two workers streaming. Both with steps of ten images."""
    errors = []
    for workers, batch, memory, alone in ((1, 10, 1.0, ["--no-ray"]), (2, 5, 0.0, [])):
        output = tmp_path / str(workers)
        more = options(
            "model={name: lab_cnn, args: {widths: [8, 16, 16], dropout: 0.0}}", "trainer.epochs=3", "loss.name=mse",
            *TWO_WORKERS, f"trainer.workers={workers}", "data.tolerate_broken=0.1", "precision=float32",
            "augment.min_area=1.0", f"trainer.batch_size={batch}", f"data.memory_gb={memory}",
        )  # fmt: skip
        assert run(["train", "--data", str(archive), "--output", str(output), *more, *alone]) == 0
        errors.append(float(metrics(Storage(output))[-1]["val_mse"]))
    assert errors[1] == pytest.approx(errors[0], rel=0.1)


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("name", ["palette_cnn", "gan"])
def test_recipes_with_a_custom_step_run_on_two_workers(name: str, archive: Path, tmp_path: Path) -> None:
    smaller = {"gan": ["model.args={width: 8, canvas: 32}", "trainer.sizes=[32]", "validation.size=32"]}.get(name, [])
    settings = [
        *smaller, *TWO_WORKERS, "trainer.epochs=1", "data.limit=16", "trainer.batch_size=8", "data.tolerate_broken=0.1",
        "data.split={val: 0.2, test: 0.2}", "validation.test=true", "validation.limit=4",
    ]  # fmt: skip
    output, grey = str(tmp_path / "run"), str(tmp_path / "grey.png")
    words = ["train", "--config", f"configs/train/{name}.yaml", "--data", str(archive), "--output", output]
    assert run([*words, *(word for setting in settings for word in ("--set", setting))]) == 0

    assert 0 < json.loads((tmp_path / "run/test.json").read_text())["mse"] < 1
    Image.new("L", (40, 30), 128).save(grey)
    assert run(["photo", grey, "--run", output, "-o", str(tmp_path / "out.png")]) == 0


@pytest.mark.cluster
@pytest.mark.timeout(1200)
def test_a_killed_or_stopped_run_resumes(archive: Path, tmp_path: Path) -> None:
    """First every process of the run dies at once in mid-epoch, as with a machine; then there is a Ctrl-C.

    The end is done without Ray, which goes on with the same state.
    """
    output = tmp_path / "run"
    settings = options("trainer.epochs=3", "trainer.retries=0", "trainer.save_minutes=0.001", "trainer.epoch_steps=24")
    command = [sys.executable, "-m", "colorize", "train", "--data", str(archive), "--output", str(output), *settings]
    command += ["--set", "data.tolerate_broken=0.1"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, start_new_session=True, stdout=log, stderr=log)
        wait_for_steps(output, 10, process, tmp_path / "log")
        kill_tree(process.pid)
    killed_at = steps(output)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--resume"], start_new_session=True, stdout=log, stderr=log)
        wait_for_steps(output, killed_at + 1, process, tmp_path / "log")
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(120) == EXIT_STOPPED, (tmp_path / "log").read_text()
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert last == "error: stopped; the state is saved: run the same command with --resume to continue"
    assert killed_at < steps(output) < 72
    subprocess.run([*command, "--resume", "--no-ray"], check=True, timeout=240)

    rows = metrics(Storage(output))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert steps(output) == 72
    assert sorted(float(row["seconds"]) for row in rows) == [float(row["seconds"]) for row in rows]


def steps(run_folder: Path) -> int:
    """Number of steps in the saved state."""
    state = RunFolder(run_folder, TrainSettings()).load_state()
    return state["state"]["steps"] if state else 0


def wait_for_steps(run_folder: Path, count: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 420
    while steps(run_folder) < count:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def kill_tree(pid: int) -> None:
    """Kills a process and all its descendants, in other sessions, too."""
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
def test_untrainable_data_stops_with_a_reason(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At once, without retries."""
    settings = options(
        "trainer.epochs=1", "data.tolerate_broken=0.5", "optimizer.clip_norm=1e30", "optimizer.learning_rate=1e30"
    )
    assert run(["train", "--data", str(archive), "--output", str(tmp_path / "run"), *settings]) == EXIT_FAULT

    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert "the loss is nan" in last or "gradient is nan" in last


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("trainer.workers=50", "the cluster has 4 CPUs"),
        ("trainer.device=cuda", "need a GPU each"),
        ("model.name=unett", "did you mean 'unet'"),
        ("data.image_column=photo", "no column 'photo'"),
        ("trainer.epoch=3", "did you mean 'trainer.epochs'"),
        ("validation.best=mse", "the metrics of this network are psnr, "),
        ("loss.name=bce", "Unet can be trained on auto only"),
    ],
)
def test_a_usage_error_is_one_line(
    setting: str, message: str, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--data", str(archive), "--output", str(tmp_path / "run")]
    assert run([*words, *options(setting)]) == EXIT_USAGE

    text = capsys.readouterr().err
    assert message in text
    assert text.count("\n") == 1
    assert not (tmp_path / "run/config.yaml").exists()  # so that the corrected command can start


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_only_errors_that_a_retry_may_fix_are_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray calls the loop again after any error; an error that a retry cannot fix is recorded."""
    for error, tried in ((TrainingFailedError("nan"), 1), (UsageError("all grey"), 1), (RuntimeError("it died"), 2)):
        attempts: list[WorkerConfig] = []

        def fail(config: WorkerConfig, error: Exception = error, attempts: list[WorkerConfig] = attempts) -> Any:
            attempts.append(config)
            raise error

        monkeypatch.setattr(worker, "run_of", fail)
        actor: Any = ray.remote(num_cpus=0)(ProgressActor).remote()
        config = WorkerConfig(TrainSettings(), Storage(tmp_path), 1, False, actor)
        with contextlib.suppress(type(error)):
            worker.train_worker({"config": config})
        if tried == 1:
            worker.train_worker({"config": config})  # ends at once
            assert str(ray.get(actor.failure.remote())) == str(error)
        else:
            with pytest.raises(type(error)):
                worker.train_worker({"config": config})
        assert len(attempts) == tried


@pytest.mark.slow
def test_a_resumed_run_keeps_its_color_weights(archive: Path, tmp_path: Path) -> None:
    """Even if the images have changed."""
    model = ModelSettings(args={"widths": [16, 16, 16], "context": 32, "context_blocks": 1, "grid": 20.0})
    settings = TrainSettings(model=model, data=DataSettings(short_side=32, tolerate_broken=0.1))
    begun = torch.rand(len(gamut_bins(20.0)))
    new = run_alone(settings, archive, tmp_path / "run", Silent())
    state, record = start_or_resume(new)
    assert record.prior is not None
    assert record.prior.sum() > 1000
    record = Record(epoch=3, prior=begun)
    new.folder.save_state({"state": state.state_dict(), "record": vars(record)})

    state, record = start_or_resume(run_alone(settings, archive, tmp_path / "run", Silent()))
    expected = create_state(settings, prior_Q=begun).objective
    assert torch.equal(state.objective.get_buffer("weights_Q"), expected.get_buffer("weights_Q"))
    assert record.epoch == 3


@pytest.mark.slow
def test_colors_are_counted_on_the_same_images_in_every_run(archive: Path, tmp_path: Path) -> None:
    settings = TrainSettings(data=DataSettings(short_side=32, balance=0.5, tolerate_broken=0.1))
    first, second = (start_or_resume(run_alone(settings, archive, tmp_path / name, Silent()))[1].prior for name in "ab")
    assert first is not None
    assert second is not None
    assert first.sum() > 0
    assert torch.equal(first, second)


def test_the_error_for_a_missing_config_suggests_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--data", "photos", "--output", "run"]) == EXIT_USAGE
    assert "--config configs/train/unet.yaml" in capsys.readouterr().err


@pytest.mark.slow
def test_a_quiet_training_prints_only_warnings_and_its_result_as_json(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--data", str(archive), "--output", str(tmp_path / "run"), "--no-ray", "--quiet", "--json"]
    assert run([*words, *options("trainer.epochs=1", "data.tolerate_broken=0.1")]) == 0

    said = capsys.readouterr()
    result = json.loads(said.out)
    assert Path(result["best"]) == tmp_path / "run/best.safetensors"
    assert Path(result["best"]).is_file()
    assert (result["epochs"], result["figures"]["epoch"]) == (1, 1)
    assert result["figures"]["val_psnr"] > 0
    assert [line[9:17] for line in said.err.splitlines()] == ["warning:"]  # of few images
