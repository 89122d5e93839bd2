"""`colorize evaluate` end to end on a real Ray cluster, compared with metrics computed directly."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image
from skimage import data, metrics

from colorize.cli import EXIT_FAILURES, EXIT_USAGE, run
from colorize.evaluate.settings import EvaluateSettings
from colorize.models import create_model
from colorize.models.checkpoint import dump_checkpoint
from colorize.settings import load_settings
from colorize.storage.root import Storage
from tests.conftest import S3, write_tree
from tests.evaluate.test_supplied_networks import random_alexnet, random_inception

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")


def evaluate(source: object, target: object, *options: str) -> int:
    """`colorize evaluate --split all` in this process, on the session's cluster; its exit status."""
    return run(["evaluate", "--data", str(source), "--output", str(target), "--split", "all", *options])


def figures(target: Path, label: str) -> dict[str, float]:
    found = json.loads((target / "metrics.json").read_text())["models"][label]["figures"]
    return {name: interval["value"] for name, interval in found.items()}


def png(image: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def cropped(name: str) -> NDArray[np.uint8]:
    """The center crop of a photograph, 256 x 256, as evaluated."""
    image = Image.fromarray(getattr(data, name)())
    edge = min(image.size)
    left, top = (image.width - edge) / 2, (image.height - edge) / 2
    box = (left, top, left + edge, top + edge)
    return np.asarray(image.resize((256, 256), Image.Resampling.BICUBIC, box=box))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_tree(folder, {f"{name}.png": png(getattr(data, name)()) for name in PHOTOS})
    return folder


@pytest.fixture(scope="module")
def measured(photos: Path, tmp_path_factory: pytest.TempPathFactory, cluster: None) -> Path:
    """One evaluation of the shipped model and of grey, shared by several tests."""
    target = tmp_path_factory.mktemp("measured")
    write_tree(photos, {"broken & <b>.jpg": b"no image"})
    assert evaluate(photos, target, "--model", "default", "--model", "grey") == EXIT_FAILURES
    return target


def test_there_is_a_row_for_each_image_and_model(measured: Path) -> None:
    table = pq.read_table(measured / "per_image.parquet").to_pylist()
    assert {(row["path"], row["model"]) for row in table} == {
        (f"{name}.png", model) for name in PHOTOS for model in ("default", "grey")
    }
    assert {row["width"] for row in table if row["path"] == "coffee.png"} == {600}


def test_a_corrupt_image_is_counted_and_the_job_continues(measured: Path) -> None:
    report = json.loads((measured / "metrics.json").read_text())
    assert (report["pictures"], report["broken"]) == (4, {"not_an_image": 1})
    assert report["broken_pictures"][0]["path"] == "broken & <b>.jpg"


@pytest.mark.parametrize("name", PHOTOS)
def test_the_grey_baseline_scores_as_computed_by_hand(measured: Path, name: str) -> None:
    true = cropped(name)
    grey = np.asarray(Image.fromarray(true).convert("L").convert("RGB"))
    rows = pq.read_table(measured / "per_image.parquet").to_pylist()
    row = next(row for row in rows if row["path"] == f"{name}.png" and row["model"] == "grey")
    assert row["psnr"] == pytest.approx(metrics.peak_signal_noise_ratio(true, grey), abs=0.01)
    reference = metrics.structural_similarity(
        true, grey, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert row["ssim"] == pytest.approx(reference, abs=1e-3)
    assert row["colorfulness"] < 0.5


def test_the_shipped_model_beats_grey(measured: Path) -> None:
    ours, grey = figures(measured, "default"), figures(measured, "grey")
    assert ours["psnr_ab"] > grey["psnr_ab"]
    assert ours["ciede2000"] < grey["ciede2000"]
    assert ours["colorfulness_error"] < grey["colorfulness_error"]
    comparisons = json.loads((measured / "metrics.json").read_text())["comparisons"]
    item = next(item for item in comparisons if item["figure"] == "psnr_ab")
    assert (item["first"], item["second"]) == ("default", "grey")
    assert item["difference"]["value"] == pytest.approx(ours["psnr_ab"] - grey["psnr_ab"])
    assert item["difference"]["low"] <= item["difference"]["value"] <= item["difference"]["high"]


def test_full_size_images_are_evaluated_as_bulk_writes_them(measured: Path, photos: Path, tmp_path: Path) -> None:
    assert run(["photo", str(photos / "coffee.png"), "-o", str(tmp_path)]) == 0
    colored, true = (np.asarray(Image.open(folder / "coffee.png").convert("RGB")) for folder in (tmp_path, photos))
    rows = pq.read_table(measured / "per_image.parquet").to_pylist()
    row = next(row for row in rows if row["path"] == "coffee.png" and row["model"] == "default")
    # The network runs in other batches there, in bfloat16 where the hardware has it.
    assert row["psnr_full"] == pytest.approx(metrics.peak_signal_noise_ratio(true, colored), abs=0.1)


def test_a_grey_image_compared_with_itself_is_perfect(photos: Path, tmp_path: Path, cluster: None) -> None:
    greys = {f"{name}.png": png(np.asarray(Image.fromarray(cropped(name)).convert("L"))) for name in PHOTOS}
    write_tree(tmp_path / "greys", greys)
    networks = {"fid_weights": random_inception(tmp_path / "i"), "lpips_weights": random_alexnet(tmp_path / "a")}
    options = ["--set", "measure.features=false"]
    for name, path in networks.items():
        options += ["--set", f"measure.{name}={path}"]
    assert evaluate(tmp_path / "greys", tmp_path / "out", "--model", "grey", *options) == 0
    found = figures(tmp_path / "out", "grey")
    assert found["psnr"] == found["psnr_full"] == 100
    assert found["ssim"] == pytest.approx(1, abs=1e-6)
    assert found["auc"] == found["auc_rebalanced"] == 100
    assert found["ciede2000"] == found["colorfulness"] == found["colorfulness_gap"] == 0
    assert found["lpips"] == 0
    assert found["fid"] == pytest.approx(0, abs=1e-3)
    assert "frechet_lite0" not in found
    assert "measure.features" in json.loads((tmp_path / "out/metrics.json").read_text())["left_out"]


def test_archives_and_checkpoints_from_bucket_to_bucket(s3: S3, cluster: None, tmp_path: Path) -> None:
    """Only the requested split is evaluated, and a limit picks the same images every time."""
    rows = [
        {"image": png(cropped(PHOTOS[i % 4])[i * 8 :]), "path": f"p/{i}.png", "split": "val" if i % 2 else "train"}
        for i in range(12)
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, row_group_size=4)
    Storage("s3://scans/evaluate").write("a.parquet", buffer.getvalue())
    (tmp_path / "tiny.safetensors").write_bytes(dump_checkpoint(create_model("lab_cnn"), name="lab_cnn", args={}))
    Storage("s3://scans/runs/tiny").write("best.safetensors", (tmp_path / "tiny.safetensors").read_bytes())
    seen = []
    for target in ("s3://colored/one", "s3://colored/two"):
        words = ["--model", "s3://scans/runs/tiny", "--data", "s3://scans/evaluate", "--output", target, "--limit", "3"]
        assert run(["evaluate", *words, "--set", "measure.features=false"]) == 0
        with Storage(target).open("per_image.parquet") as file:
            table = pq.read_table(file).to_pylist()
        assert {row["model"] for row in table} == {"tiny"}
        seen.append([row["title"] for row in table])
        assert Storage(target).read("evaluation.html").startswith(b"<!doctype html>")
    assert seen[0] == seen[1]
    assert len(seen[0]) == 3
    assert all(int(title[2:-4]) % 2 for title in seen[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "defualt"], "unknown model 'defualt' (did you mean 'default'?)"),
        (["--model", "grey", "--model", "grey"], "--model grey is given twice"),
        (["--model", "grey", "--split", "vaal"], "choose one of train, val, test, all"),
        (["--model", "grey", "--set", "measure.sizes=3"], "did you mean 'measure.size'?"),
    ],
)
def test_a_usage_error_is_one_line(
    options: list[str], message: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(photos, tmp_path / "out", *options) == EXIT_USAGE
    text = capsys.readouterr().err
    assert message in text
    assert text.count("\n") == 1


def test_an_empty_split_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str], cluster: None) -> None:
    write_tree(tmp_path / "in", {"train/a.png": png(cropped("coffee"))})
    assert evaluate(tmp_path / "in", tmp_path / "out", "--model", "grey", "--split", "test") == EXIT_USAGE
    assert "no image of 1 in" in capsys.readouterr().err


def test_the_documented_configuration_is_the_complete_default() -> None:
    path = Path(__file__).parents[2] / "configs/evaluate/default.yaml"
    assert load_settings(EvaluateSettings, path) == EvaluateSettings()
    assert yaml.safe_load(path.read_text()) == EvaluateSettings().model_dump(mode="json")
