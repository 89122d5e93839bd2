"""Color strength: the temperature of the bins, the saturation, and the compression of chroma outliers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from colorize.bulk.settings import BulkSettings
from colorize.cli import EXIT_USAGE, run
from colorize.errors import UsageError
from colorize.evaluate.settings import EvaluateSettings
from colorize.imaging.chroma_outliers import FACTOR, HEADROOM, MIN_LIMIT, compress_outliers
from colorize.models import create_model
from colorize.models.checkpoint import dump_checkpoint
from colorize.models.unet import gamut_bins
from colorize.predict.colorizer import Colorizer
from colorize.predict.settings import ColorizerSettings
from colorize.predict.torch_network import torch_colorizer
from colorize.settings import load_settings

TINY = {"widths": [16, 16, 16], "context": 32, "context_blocks": 1, "grid": 20.0}


def colorizer(**settings: float) -> Colorizer:
    torch.manual_seed(0)
    chosen = ColorizerSettings.model_validate({"size": 64, "precision": "float32", **settings})
    return torch_colorizer(create_model("unet", **TINY), **chosen.model_dump())


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 80), dtype=np.uint8)


def chroma(ab: np.ndarray) -> np.ndarray:
    strength: np.ndarray = np.hypot(*ab.astype(np.float32))
    return strength


class TestSettings:
    def test_saturation_scales_every_color(self, image: np.ndarray) -> None:
        (plain,), (double,) = colorizer()([image]), colorizer(saturation=2)([image])
        assert chroma(plain).max() > 1
        np.testing.assert_allclose(double, 2 * plain.astype(np.float32), rtol=1e-2, atol=1e-2)

    def test_without_saturation_the_image_stays_grey(self, image: np.ndarray) -> None:
        (ab,) = colorizer(saturation=0)([image])
        assert not ab.any()

    def test_a_low_temperature_favors_the_likeliest_bins(self, image: np.ndarray) -> None:
        bins = gamut_bins(20.0)

        def aside(temperature: float) -> float:
            torch.manual_seed(0)
            plain = create_model("unet", **TINY, spread=0, shadows=0)  # the annealed mean alone
            (ab,) = torch_colorizer(plain, size=64, precision="float32", temperature=temperature)([image])
            return float(torch.cdist(torch.from_numpy(ab.astype(np.float32)).flatten(1).T, bins).amin(dim=1).mean())

        assert aside(0.05) < aside(1.0)

    def test_the_temperature_defaults_to_that_of_the_checkpoint(self, image: np.ndarray) -> None:
        (own,), (said,) = colorizer()([image]), colorizer(temperature=0.85)([image])
        np.testing.assert_array_equal(own, said)

    @pytest.mark.parametrize("settings", [BulkSettings, EvaluateSettings])
    @pytest.mark.parametrize(
        ("override", "limit"),
        [("temperature=0.01", "0.05"), ("temperature=9", "4"), ("saturation=-1", "0"), ("saturation=3.5", "3")],
    )
    def test_values_out_of_range_are_named(self, settings: type, override: str, limit: str) -> None:
        with pytest.raises(UsageError, match=rf"colorizer.{override}.*{limit}"):
            load_settings(settings, overrides=[f"colorizer.{override}"])

    @pytest.mark.parametrize("override", ["temperature=0.5", "saturation=1.2"])
    def test_changing_either_redoes_an_earlier_run(self, override: str) -> None:
        changed = load_settings(BulkSettings, overrides=[f"colorizer.{override}"])
        assert changed.pixels_digest() != BulkSettings().pixels_digest()


class TestWithoutBins:
    @pytest.fixture
    def weights(self, tmp_path: Path) -> str:
        args = {"head": "regression", **{key: value for key, value in TINY.items() if key != "grid"}}
        path = tmp_path / "plain.safetensors"
        path.write_bytes(dump_checkpoint(create_model("unet", **args), name="unet", args=args))
        return str(path)

    @pytest.mark.parametrize("command", ["photo", "bulk", "evaluate"])
    def test_a_temperature_is_refused_in_one_line(
        self, command: str, weights: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        scans, out = tmp_path / "scans", str(tmp_path / "out")
        scans.mkdir()
        Image.new("L", (32, 32), 128).save(scans / "a.png")
        where = {
            "photo": [str(scans / "a.png"), "-o", out],
            "bulk": ["--input", str(scans), "--output", out],
            "evaluate": ["--data", str(scans), "--output", out],
        }[command]
        assert run([command, *where, "--model", weights, "--set", "colorizer.temperature=0.5"]) == EXIT_USAGE
        told = capfd.readouterr().err.strip().splitlines()
        assert told[-1].endswith(
            "colorizer.temperature=0.5: UnetRegression has no bins with a temperature: set it to null"
        )

    def test_saturation_still_applies(self, image: np.ndarray) -> None:
        assert torch_colorizer(create_model("lab_cnn"), size=64, saturation=1.5)([image])


class TestBlotches:
    def muted(self) -> np.ndarray:
        """An image of low chroma, `(2, 48, 64)`."""
        return np.random.default_rng(0).normal(0, 6, (2, 48, 64)).astype(np.float32)

    def test_an_ordinary_image_is_unchanged(self) -> None:
        ab = self.muted()
        assert compress_outliers(ab) is ab

    def test_an_image_that_is_vivid_everywhere_is_unchanged(self) -> None:
        ab = self.muted() + np.float32(60)
        assert compress_outliers(ab) is ab

    def test_a_vivid_corner_of_a_muted_image_is_compressed_and_keeps_its_hue(self) -> None:
        ab = self.muted()
        ab[:, :3, :3] = np.array([90, -70], np.float32)[:, None, None]
        compressed = compress_outliers(ab)
        corner = compressed[:, 0, 0]
        assert MIN_LIMIT < np.hypot(*corner) <= MIN_LIMIT * (1 + HEADROOM)
        assert corner[0] / corner[1] == pytest.approx(90 / -70, rel=1e-4)

    def test_only_outliers_change(self) -> None:
        ab = self.muted()
        ab[:, :3, :3] = 80
        compressed = compress_outliers(ab)
        np.testing.assert_allclose(compressed[:, 3:], ab[:, 3:], rtol=1e-6)

    def test_compression_preserves_the_order_of_chroma(self) -> None:
        ab = self.muted()
        ab[:, 0, 0], ab[:, 5, 5] = 30, 60
        compressed = np.hypot(*compress_outliers(ab))
        assert compressed[5, 5] > compressed[0, 0] > MIN_LIMIT

    def test_a_colorful_image_may_have_more_vivid_spots(self) -> None:
        ab = self.muted() * np.float32(25 / 12.9)  # nine tenths are below a chroma of about 25
        ab[:, 0, 0] = 40
        limit = FACTOR * float(np.quantile(np.hypot(*ab), 0.9))
        assert limit > np.hypot(40, 40)
        assert compress_outliers(ab) is ab

    def test_nan_is_preserved(self) -> None:
        ab = self.muted()
        ab[0, 0, 0] = np.nan
        assert np.isnan(compress_outliers(ab)).any()
