"""The study of decoding methods: images by kind, cached distributions, and the color that the network gives in use."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from benchmarks.decodes import GreyInput, Way, by_entropy, in_shadows
from benchmarks.distributions import Distributions, View
from benchmarks.kinds import SIDE, DecodedImage, historical, modern
from benchmarks.operating_point import SATURATIONS, GroundTruth, Kind
from colorize.errors import UsageError
from colorize.imaging.color import grey_to_lightness, rgb_to_lab
from colorize.models import create_model
from colorize.models.checkpoint import dump_checkpoint
from colorize.predict.model_files import find_model
from tests.images import saved

TINY = {"widths": [16, 16, 16], "context": 32, "context_blocks": 1, "grid": 20.0}


def image(seed: int = 0, kind: str = "kind") -> DecodedImage:
    """Large soft patches of color."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    rgb = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return DecodedImage(kind, f"{kind}/{seed}", rgb)


@pytest.fixture
def weights(tmp_path: Path) -> str:
    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(dump_checkpoint(create_model("unet", **TINY), name="unet", args=TINY))
    return str(path)


class TestKinds:
    def test_historical_images_are_those_listed_in_the_provenance(self, tmp_path: Path) -> None:
        for name in ("a.jpg", "b.jpg", "unlisted.jpg"):
            Image.new("RGB", (40, 30), "red").save(tmp_path / name)
        (tmp_path / "provenance.csv").write_text("file,collection\nb.jpg,fsa-owi-color\na.jpg,elsewhere\n")
        found = historical(tmp_path)
        assert [(p.path, p.kind) for p in found] == [("b.jpg", "Kodachromes"), ("a.jpg", "elsewhere")]
        assert found[0].rgb.shape == (SIDE, SIDE, 3)

    def test_only_held_out_modern_images_are_used_up_to_the_limit(self, tmp_path: Path) -> None:
        image = saved(Image.new("RGB", (40, 30), "teal"), "PNG")
        rows = [
            {"path": f"{split}/{source}/{n}", "source": source, "split": split, "image": image}
            for source in ("sea", "city")
            for split in ("train", "val")
            for n in range(4)
        ]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "photos.parquet")
        found = modern(tmp_path, {"outdoors": {"sea": 3, "city": 9}})
        assert [p.path.split("/")[:2] for p in found] == [["val", "sea"]] * 3 + [["val", "city"]] * 4
        assert [p.path for p in found] == [p.path for p in modern(tmp_path, {"outdoors": {"sea": 3, "city": 9}})]


class TestDistributions:
    def test_distributions_match_the_network_and_are_cached(self, weights: str, tmp_path: Path) -> None:
        images = [image(seed) for seed in range(3)]
        known = Distributions(find_model(weights), images, tmp_path / "cache")
        view = View(64)
        known.prepare(view)
        (kept,) = (tmp_path / "cache").iterdir()
        written = kept.stat().st_mtime_ns
        again = Distributions(find_model(weights), images, tmp_path / "cache")
        again.prepare(view)
        np.testing.assert_array_equal(again.of(1, view), known.of(1, view))
        assert kept.stat().st_mtime_ns == written
        np.testing.assert_allclose(np.exp(known.of(1, view)).sum(axis=0), 1, atol=5e-3)

    def test_a_mirrored_view_is_mirrored_back(self, weights: str, tmp_path: Path) -> None:
        one = image()
        mirrored = DecodedImage("kind", "mirrored", np.ascontiguousarray(one.rgb[:, ::-1]))
        known = Distributions(find_model(weights), [one, mirrored], tmp_path)
        for view in (View(64), View(64, True)):
            known.prepare(view)
        np.testing.assert_allclose(
            known.of(1, View(64, True))[..., ::-1], known.of(0, View(64)), atol=0.05
        )  # fitting to the canvas is not symmetric to the last bit

    def test_a_network_without_bins_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "plain.safetensors"
        path.write_bytes(dump_checkpoint(create_model("lab_cnn"), name="lab_cnn", args={}))
        with pytest.raises(UsageError, match="lab_cnn has no color bins"):
            Distributions(find_model(str(path)), [image()], tmp_path)

    def test_the_best_method_is_the_one_in_use(self, weights: str, tmp_path: Path) -> None:
        one, view = image(), View(64)
        known = Distributions(find_model(weights), [one], tmp_path)
        known.prepare(view)
        grey = np.asarray(Image.fromarray(one.rgb).convert("L").resize((64, 64), Image.Resampling.BICUBIC))
        L = grey_to_lightness(torch.from_numpy(grey / np.float32(255)))
        way = Way(partial(in_shadows, decode=partial(by_entropy, power=1)), (view,))
        torch.manual_seed(0)
        with torch.inference_mode():
            used = create_model("unet", **TINY).eval()(L[None, None])[0]
        np.testing.assert_allclose(way(GreyInput(known, 0, L.numpy())), used, atol=0.1)


class TestCurves:
    def test_true_colors_are_worth_most_at_their_own_saturation(self) -> None:
        one = image()
        truth = GroundTruth(one)
        ab = rgb_to_lab(torch.from_numpy(one.rgb / np.float32(255)).permute(2, 0, 1))[1:].numpy()
        curve = truth.curve(np.ascontiguousarray(ab))
        assert SATURATIONS[curve[:, 0].argmax()] == 1.0
        assert curve[:, 0].max() > truth.grey + 6
        assert curve[SATURATIONS.index(1.0), 1] == pytest.approx(truth.colorfulness, rel=0.1)
        assert (np.diff(curve[:, 1]) > 0).all()

    def test_gains_are_per_kind_and_interpolated_between_saturations(self) -> None:
        images = [image(0, "sea"), image(1, "city"), image(2, "city")]
        truths = [GroundTruth(p) for p in images]
        city = Kind("city", images, truths)
        steps = np.arange(1, len(SATURATIONS) + 1) / 4  # colorfulness at each saturation, relative to the ground truth
        curve = np.stack([np.stack([t.grey + 8 * steps, t.colorfulness * steps], axis=1) for t in truths]).astype(
            np.float32
        )
        curve[0] = 1e6  # another kind's
        assert city.interval(curve, 0.6).value == pytest.approx(8 * 0.6, rel=1e-3)
        assert np.isnan(city.interval(curve, 0.1).value)
        assert city.saturation_at(curve, 0.75) == pytest.approx(SATURATIONS[2])
        assert city.at_saturation(curve, SATURATIONS[1]) == "+4.00 / 50%"
