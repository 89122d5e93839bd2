"""Runs of training on tiny networks and images: files, resuming, refusals."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

from colorize.cli import EXIT_USAGE, run
from colorize.errors import StoppedError, UsageError
from colorize.models.checkpoint import load_checkpoint
from colorize.settings import load_settings
from colorize.train.loop import train
from colorize.train.run_folder import RunFolder
from colorize.train.settings import TrainSettings
from colorize.train.single import train_alone
from tests.training import Silent, run_alone

RECIPE = Path(__file__).parents[2] / "configs" / "train" / "unet.yaml"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Twelve images in two splits, of three aspects and two sources."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(12):
        width, height = ((64, 64), (88, 64), (64, 88))[index % 3]
        image = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((width, height))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG")
        split, source = ("val" if index >= 8 else "train"), ("rare" if index == 0 else "common")
        rows.append({"image": buffer.getvalue(), "split": split, "source": source})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "photos.parquet")
    return tmp_path / "photos.parquet"


def die_after_first(save: Callable[[Mapping[str, Any]], None]) -> Callable[[RunFolder, Mapping[str, Any]], None]:
    """Saves once, then fails."""
    calls: list[int] = []

    def saving(folder: RunFolder, state: Mapping[str, Any]) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise MemoryError
        save(state)

    return saving


class TestRun:
    @pytest.mark.slow
    def test_a_run_writes_all_its_files(self, settings: TrainSettings, archive: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        figures = train_alone(settings, str(archive), str(run))
        with (run / "metrics.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        assert [row["epoch"] for row in rows] == ["1", "2"]
        assert {"loss", "val_psnr", "val_psnr_grey", "val_colorfulness"} <= rows[0].keys()
        assert figures["val_psnr"] == pytest.approx(float(rows[-1]["val_psnr"]), rel=1e-4)
        assert load_settings(TrainSettings, run / "config.yaml") == settings
        assert sorted(p.name for p in (run / "samples").iterdir()) == ["epoch-001.png", "epoch-002.png"]
        assert load_checkpoint(run / "best.safetensors").args == settings.model.args
        assert load_checkpoint(run / "checkpoints" / "epoch-002.safetensors").name == "unet"

    @pytest.mark.slow
    def test_a_completed_run_is_not_repeated(self, settings: TrainSettings, archive: Path, tmp_path: Path) -> None:
        train_alone(settings, str(archive), str(tmp_path / "run"))
        longer = settings.model_copy(update={"trainer": settings.trainer.model_copy(update={"epochs": 3})})
        figures = train_alone(longer, str(archive), str(tmp_path / "run"), resume=True)
        state = RunFolder(tmp_path / "run", longer).load_state()
        assert figures["epoch"] == 3
        assert state is not None
        assert state["state"]["steps"] == 6

    @pytest.mark.slow
    @pytest.mark.parametrize("stop", [1, 3, 5], ids=["within an epoch", "between epochs", "within the last"])
    def test_a_stopped_run_resumes_exactly(
        self, settings: TrainSettings, archive: Path, tmp_path: Path, stop: int
    ) -> None:
        """The same batches, augmentation and metrics, wherever it was interrupted."""
        trainer = settings.trainer.model_copy(update={"epoch_steps": 3})
        settings = settings.model_copy(update={"trainer": trainer})
        whole = train(run_alone(settings, archive, tmp_path / "whole", Silent()))
        with pytest.raises(StoppedError, match=r"the state is saved: .* --resume") as stopped:
            train(run_alone(settings, archive, tmp_path / "paused", Silent(stop_after=stop)))
        torch.rand(99)  # other use of the random state
        resumed = train(run_alone(settings, archive, tmp_path / "paused", Silent()))
        assert stopped.value.status == 130
        for name in ("loss", "gradient_norm", "val_psnr", "val_psnr_ab"):
            assert resumed[name] == pytest.approx(whole[name], rel=1e-5), name

    @pytest.mark.slow
    def test_a_run_can_have_a_time_limit(self, settings: TrainSettings, archive: Path, tmp_path: Path) -> None:
        trainer = settings.trainer.model_copy(update={"minutes": 0.01, "epoch_steps": 1, "epochs": 1})
        train_alone(settings.model_copy(update={"trainer": trainer}), str(archive), str(tmp_path / "run"))
        rows = list(csv.DictReader((tmp_path / "run/metrics.csv").open()))
        assert float(rows[-1]["seconds"]) >= 0.6
        assert all(float(row["seconds"]) < 0.6 for row in rows[:-1])

    @pytest.mark.slow
    def test_checkpoints_are_saved_within_epochs(
        self, settings: TrainSettings, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A killed process loses minutes, not an epoch: here it dies after the second step."""
        often = settings.trainer.model_copy(update={"save_minutes": 1e-9, "epoch_steps": 4})
        settings = settings.model_copy(update={"trainer": often})
        run = run_alone(settings, archive, tmp_path / "run", Silent())
        monkeypatch.setattr(RunFolder, "save_state", die_after_first(run.folder.save_state))
        with pytest.raises(MemoryError):
            train(run)
        state = run.folder.load_state()
        assert state is not None
        assert (state["record"]["epoch"], state["record"]["taken"], state["state"]["steps"]) == (0, 1, 1)

    def test_grey_images_are_refused_before_the_first_step(
        self, settings: TrainSettings, archive: Path, tmp_path: Path
    ) -> None:
        rows = pq.read_table(archive).to_pylist()
        for row in rows:
            buffer = io.BytesIO()
            Image.open(io.BytesIO(row["image"])).convert("L").save(buffer, "JPEG")
            row["image"] = buffer.getvalue()
        pq.write_table(pa.Table.from_pylist(rows), archive)
        with pytest.raises(UsageError, match="the training images are all grey: --data must hold color images"):
            train_alone(settings, str(archive), str(tmp_path / "run"))
        assert not (tmp_path / "run/state.pt").exists()

    @pytest.mark.parametrize("rate", [1e30])
    def test_a_non_finite_loss_ends_a_run(
        self, settings: TrainSettings, archive: Path, tmp_path: Path, rate: float
    ) -> None:
        reckless = settings.optimizer.model_copy(update={"learning_rate": rate, "clip_norm": None, "warmup": 0.0})
        settings = settings.model_copy(update={"optimizer": reckless})
        with pytest.raises(StoppedError, match=r"(the loss is|gradient is) (nan|inf): lower optimizer\.learning_rate"):
            train_alone(settings, str(archive), str(tmp_path / "run"))

    def test_more_workers_than_this_process_are_refused(self, archive: Path, tmp_path: Path) -> None:
        settings = load_settings(TrainSettings, overrides=["trainer.workers=2"])
        with pytest.raises(UsageError, match=r"trainer\.workers=2: .* drop --no-ray"):
            train_alone(settings, str(archive), str(tmp_path / "run"))

    def test_resume_needs_a_run(self, settings: TrainSettings, archive: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"--resume: .*/run holds no training run; drop --resume"):
            train_alone(settings, str(archive), str(tmp_path / "run"), resume=True)
        assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())

    def test_a_run_is_never_overwritten(self, settings: TrainSettings, tmp_path: Path) -> None:
        RunFolder(tmp_path / "run", settings).claim()
        with pytest.raises(UsageError, match="--resume"):
            RunFolder(tmp_path / "run", settings).claim()

    def test_resuming_with_another_model_is_refused(self, settings: TrainSettings, tmp_path: Path) -> None:
        RunFolder(tmp_path / "run", settings).claim()
        other = settings.model.model_copy(update={"args": {"grid": 16.0}})
        with pytest.raises(UsageError, match="another model"):
            RunFolder(tmp_path / "run", settings.model_copy(update={"model": other})).claim(resume=True)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ("optimizer.name=rmsprop", r"from optimizer\.name=adamw to rmsprop: start from its weights"),
            ("adversarial={}", "`adversarial` switched on or off"),
        ],
    )
    def test_a_run_with_an_incompatible_state_cannot_be_resumed(
        self, change: str, message: str, tmp_path: Path
    ) -> None:
        RunFolder(tmp_path / "run", load_settings(TrainSettings)).claim()
        other = RunFolder(tmp_path / "run", load_settings(TrainSettings, overrides=[change]))
        with pytest.raises(UsageError, match=message):
            other.check(resume=True)
        assert load_settings(TrainSettings, tmp_path / "run/config.yaml") == load_settings(TrainSettings)

    def test_a_refused_command_leaves_no_run_folder(self, archive: Path, tmp_path: Path) -> None:
        words = [
            "train",
            "--no-ray",
            "--config",
            str(RECIPE),
            "--data",
            str(archive),
            "--output",
            str(tmp_path / "run"),
        ]
        for _ in range(2):
            assert run([*words, "--output", str(tmp_path / "run"), "--set", "loss.name=bce"]) == EXIT_USAGE
        assert not (tmp_path / "run/config.yaml").exists()

    def test_a_run_from_before_a_new_model_setting_resumes(self, settings: TrainSettings, tmp_path: Path) -> None:
        RunFolder(tmp_path / "run", settings).claim()
        config = tmp_path / "run/config.yaml"
        written = yaml.safe_load(config.read_text())
        del written["model"]["weights"]
        config.write_text(yaml.safe_dump(written))
        RunFolder(tmp_path / "run", settings).claim(resume=True)

    @pytest.mark.parametrize("config", ["", "model: 3", "model: {name: [unet]}", "{"])
    def test_a_config_without_a_model_is_refused(self, config: str, settings: TrainSettings, tmp_path: Path) -> None:
        RunFolder(tmp_path / "run", settings).claim()
        (tmp_path / "run/config.yaml").write_text(config)
        with pytest.raises(UsageError, match="another model"):
            RunFolder(tmp_path / "run", settings).claim(resume=True)

    def test_the_shipped_recipe_is_complete(self) -> None:
        resolved = load_settings(TrainSettings, RECIPE).model_dump(mode="json")
        for group, written in yaml.safe_load(RECIPE.read_text()).items():  # without groups of other models
            assert written == resolved[group], group
