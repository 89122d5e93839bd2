"""Confidence: it matches the formulas, and it is lowest for the images with the worst colors."""

from __future__ import annotations

import io
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from colorize.evaluate.candidates import color_scans
from colorize.evaluate.ground_truth import grey_png
from colorize.imaging.color import rgb_to_lab
from colorize.imaging.formats.upright import center_crop
from colorize.metrics import ciede2000
from colorize.models import create_model
from colorize.models.base import entropy
from colorize.models.checkpoint import load_checkpoint
from colorize.models.unet import FAR, Unet, fading
from colorize.predict.confidence import color_and_uncertainty, disagreement
from colorize.predict.torch_network import torch_colorizer
from colorize.weights import shipped_weights

PHOTOS = Path(__file__).parents[3] / "shared/data/photos"


def test_a_uniform_distribution_is_fully_uncertain_and_a_certain_one_not_at_all() -> None:
    even, sure = torch.zeros(1, 7, 1, 1), torch.tensor([100.0, *[0.0] * 6]).reshape(1, 7, 1, 1)
    assert entropy(even).item() == pytest.approx(1)
    assert entropy(sure).item() == pytest.approx(0, abs=1e-6)
    halves = torch.tensor([0.0, 0.0, *[-100.0] * 2]).reshape(1, 4, 1, 1)
    assert entropy(halves).item() == pytest.approx(0.5)  # log 2 / log 4


def test_different_predictions_are_uncertain() -> None:
    ab = torch.zeros(1, 2, 1, 1)
    assert disagreement(ab, ab).item() == 0
    assert disagreement(ab, ab + 20 / 2**0.5).item() == pytest.approx(1 - np.exp(-1))


class TestTheDefaultsDoubt:
    """The expected distance of the true color, under the distribution, from the predicted one."""

    GREY = torch.full((1, 1, 4, 4), 60.0)

    @pytest.fixture(scope="class")
    def model(self) -> Unet:
        torch.manual_seed(0)
        return Unet().eval()

    def certain(self, model: Unet, *bins: int) -> Tensor:
        """Logits `(1, Q, 1, 1)` of a uniform distribution over some of the bins."""
        logits = torch.full((1, len(model.bins_Q2), 1, 1), -100.0)
        logits[0, list(bins)] = 0
        return logits

    def test_for_one_possible_color_uncertainty_is_its_distance(self, model: Unet) -> None:
        color = model.bins_Q2[10].reshape(1, 2, 1, 1)
        aside = color + torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
        assert model.uncertainty(self.certain(model, 10), color, self.GREY).item() == pytest.approx(0, abs=1e-3)
        assert model.uncertainty(self.certain(model, 10), aside, self.GREY).item() == pytest.approx(5 / FAR, abs=1e-3)

    def test_for_two_colors_uncertainty_is_the_mean_distance(self, model: Unet) -> None:
        first, last = model.bins_Q2[0], model.bins_Q2[-1]
        found = model.uncertainty(self.certain(model, 0, -1), first.reshape(1, 2, 1, 1), self.GREY)
        assert found.item() == pytest.approx(min(1.0, (last - first).norm().item() / 2 / FAR), abs=1e-3)

    def test_similar_colors_are_less_uncertain_than_different_ones_with_the_same_entropy(self, model: Unet) -> None:
        far = int((model.bins_Q2 - model.bins_Q2[60]).norm(dim=1).argmax())
        near = int((model.bins_Q2 - model.bins_Q2[60]).norm(dim=1).argsort()[1])
        alike, unlike = self.certain(model, 60, near), self.certain(model, 60, far)
        assert entropy(alike).item() == pytest.approx(entropy(unlike).item())
        uncertainties = [
            model.uncertainty(both, model.color_from(both, self.GREY), self.GREY).item() for both in (alike, unlike)
        ]
        assert 2 * uncertainties[0] < uncertainties[1]

    def test_uncertainty_fades_in_shadows_and_stays_within_0_and_1(self, model: Unet) -> None:
        logits = self.certain(model, 60, 70, 80)
        ab = torch.tensor([10.0, -20.0]).reshape(1, 2, 1, 1)
        light, dark = (model.uncertainty(logits, ab, torch.full((1, 1, 4, 4), L)).item() for L in (45.0, 0.0))
        assert dark == pytest.approx(light * fading(torch.tensor(0.0), 45.0).item())
        wrong = torch.full((1, 2, 1, 1), -500.0)
        assert model.uncertainty(logits, wrong, self.GREY).item() == 1

    def test_uncertainty_has_the_resolution_of_the_color(self, model: Unet) -> None:
        L_B1HW = torch.rand(2, 1, 64, 96) * 100
        with torch.inference_mode():
            ab, uncertainty = color_and_uncertainty(model, L_B1HW)
        assert uncertainty.shape == (2, 16, 24)
        torch.testing.assert_close(ab, model(L_B1HW))


class LeftIsRed(nn.Module):
    """Colors the left half red, regardless of the image."""

    stride = 1

    def forward(self, L_B1HW: Tensor) -> Tensor:
        ab = torch.zeros(len(L_B1HW), 2, *L_B1HW.shape[2:])
        ab[:, 0, :, : L_B1HW.shape[3] // 2] = 60
        return ab


def test_a_network_without_bins_is_uncertain_where_the_mirrored_image_differs() -> None:
    ab, uncertainty = color_and_uncertainty(LeftIsRed(), torch.zeros(2, 1, 8, 8))
    assert ab[0, 0, 0].tolist() == [60.0] * 4 + [0.0] * 4
    assert uncertainty.min() == uncertainty.max() == pytest.approx(1 - np.exp(-3))


@pytest.mark.parametrize("name", ["unet", "lab_cnn"])
def test_requesting_confidence_does_not_change_colors(name: str) -> None:
    torch.manual_seed(0)
    colorizer = torch_colorizer(create_model(name), size=64, precision="float32")
    greys = [np.random.default_rng(i).integers(0, 256, (40 + 20 * i, 64), np.uint8) for i in range(3)]
    asked = colorizer.color(greys, confidence=True)
    for plain, colored in zip(colorizer(greys), asked, strict=True):
        assert np.abs(plain.astype(float) - colored.ab.astype(float)).max() < 0.05
        assert 0 <= colored.confidence <= 1
    assert {colored.confidence for colored in colorizer.color(greys)} == {0.0}


@pytest.mark.skipif(not PHOTOS.exists(), reason="needs the photographs beside the project")
def test_the_least_confident_tenth_has_clearly_larger_color_error() -> None:
    table = pq.read_table(
        sorted(PHOTOS.glob("*.parquet"))[0], columns=["image", "split"], filters=[("split", "=", "val")]
    )
    crops = [
        center_crop(Image.open(io.BytesIO(i)).convert("RGB"), 256) for i in islice(table["image"].to_pylist(), 150)
    ]
    colorizer = torch_colorizer(load_checkpoint(shipped_weights()["default"]).model)
    found = color_scans([grey_png(c) for c in crops], lambda g: colorizer.color(g, confidence=True), 256**2)
    errors = [_difference(image, crop) for (image, _), crop in zip(found, crops, strict=True)]
    order = np.argsort([confidence for _, confidence in found])
    least, rest = order[: len(order) // 10], order[len(order) // 10 :]
    assert np.mean(np.array(errors)[least]) > 1.25 * np.mean(np.array(errors)[rest])


def _difference(ours: np.ndarray, true: np.ndarray) -> float:
    lab = [rgb_to_lab(torch.from_numpy(np.array(p)).permute(2, 0, 1)[None].float() / 255) for p in (ours, true)]
    return ciede2000(*lab).mean().item()
