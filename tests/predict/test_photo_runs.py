"""`colorize photo --run`: the history of a training, and enlarged images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from colorize.cli import EXIT_FAILURES, EXIT_USAGE, run
from colorize.imaging.color import grey_to_lightness
from colorize.models import create_model
from colorize.models.checkpoint import dump_checkpoint
from colorize.predict.enlarge import enlarge
from tests.conftest import grey_jpeg, write_tree


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--history", "--enlarge"])
def test_no_sheet_replaces_a_source_or_another_sheet(
    option: str, training_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tree(tmp_path, {"x.png": (scan := grey_jpeg(1)), "y.jpg": grey_jpeg(2)})
    source, other = str(tmp_path / "x.png"), str(tmp_path / "y.jpg")
    words = ["--run", str(training_run), option, "-o"]

    assert run(["photo", source, *words, source]) == EXIT_FAILURES
    assert "would replace the source" in capsys.readouterr().err
    assert (tmp_path / "x.png").read_bytes() == scan
    assert run(["photo", source, other, *words, str(tmp_path / "sheet.png")]) == EXIT_USAGE
    assert run(["photo", source, *words, str(tmp_path / "sheet.jpg")]) == EXIT_FAILURES
    assert f"the output is a PNG: use --output {tmp_path / 'sheet.png'}" in capsys.readouterr().err


@pytest.fixture
def training_run(tmp_path: Path) -> Path:
    """The run folder of three epochs of training, as far as coloring needs it."""
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    for epoch in (1, 2, 10):
        torch.manual_seed(epoch)
        model = create_model("superres_cnn")
        for name in (f"checkpoints/epoch-{epoch:03d}.safetensors", "best.safetensors"):
            (folder / name).write_bytes(dump_checkpoint(model, name="superres_cnn", args={}))
    return folder


@pytest.mark.slow
def test_a_runs_history_shows_each_epoch_side_by_side(training_run: Path, photo_folder: Path, tmp_path: Path) -> None:
    source = photo_folder / "1931/wide.png"
    assert run(["photo", str(source), "--run", str(training_run), "--history", "-o", str(tmp_path)]) == 0

    sheet = Image.open(tmp_path / "wide.history.png")
    panels = [sheet.crop((i * sheet.width // 4, 0, (i + 1) * sheet.width // 4, sheet.height - 30)) for i in range(4)]
    assert len({panel.tobytes() for panel in panels}) == 4  # grey, and three different epochs
    lumas = [np.asarray(panel.convert("L")).astype(int) for panel in panels]
    assert all((abs(luma - lumas[0]) <= 1).all() for luma in lumas)


@pytest.mark.slow
def test_an_enlarged_image_has_three_times_the_sides(
    training_run: Path, photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = photo_folder / "1931/wide.png"
    assert run(["photo", str(source), "--run", str(training_run), "--enlarge", "-o", str(tmp_path / "big.png")]) == 0
    big, small = Image.open(tmp_path / "big.png"), Image.open(source)
    assert big.size == (3 * small.width, 3 * small.height)
    assert "inferred by" in big.text["Description"]  # type: ignore[attr-defined]

    assert run(["photo", str(source), "--enlarge"]) == EXIT_USAGE
    assert "is not a superres_cnn" in capsys.readouterr().err


@pytest.mark.slow
def test_tiles_of_an_enlarged_image_have_no_seams() -> None:
    torch.manual_seed(0)
    network = create_model("superres_cnn").eval()
    grey = np.random.default_rng(0).integers(0, 256, (70, 300), dtype=np.uint8)
    with torch.inference_mode():
        whole = network.enlarge(grey_to_lightness(torch.from_numpy(grey[None, None]).float() / 255))  # type: ignore[operator]
    expected = (whole[0].permute(1, 2, 0) * 255).numpy()
    assert np.abs(enlarge(network, grey) - expected).max() < 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--history"], "give its folder with --run"),
        (["--history", "--enlarge", "--run", "x"], "give one of them"),
        (["--history", "--run", "."], "has no checkpoints/epoch-NNN.safetensors"),
    ],
)
def test_errors_of_history_and_enlarge_are_reported(
    words: list[str],
    message: str,
    photo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["photo", str(photo_folder / "grey.jpg"), *words]) == EXIT_USAGE
    assert message in capsys.readouterr().err
