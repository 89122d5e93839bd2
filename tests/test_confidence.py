"""A network's confidence: what the formulas say, and that it points at the pictures whose colors are worst."""

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

from colorize.evaluate.contestants import color_scans
from colorize.evaluate.truth import grey_png
from colorize.imaging.color import rgb_to_lab
from colorize.imaging.formats.upright import center_crop
from colorize.metrics import ciede2000
from colorize.models import create_model
from colorize.models.base import entropy
from colorize.models.checkpoint import load_checkpoint, shipped_weights
from colorize.predict.colorizer import Colorizer
from colorize.predict.confidence import color_and_doubt, disagreement

PHOTOS = Path(__file__).parent.parent.parent / "shared/data/photos"


def test_no_preference_is_full_doubt_and_certainty_is_none() -> None:
    even, sure = torch.zeros(1, 7, 1, 1), torch.tensor([100.0, *[0.0] * 6]).reshape(1, 7, 1, 1)
    assert entropy(even).item() == pytest.approx(1)
    assert entropy(sure).item() == pytest.approx(0, abs=1e-6)
    halves = torch.tensor([0.0, 0.0, *[-100.0] * 2]).reshape(1, 4, 1, 1)
    assert entropy(halves).item() == pytest.approx(0.5)  # log 2 / log 4


def test_unlike_predictions_are_doubtful() -> None:
    ab = torch.zeros(1, 2, 1, 1)
    assert disagreement(ab, ab).item() == 0
    assert disagreement(ab, ab + 20 / 2**0.5).item() == pytest.approx(1 - np.exp(-1))


class LeftIsRed(nn.Module):
    """Paints the left half red: a network that knows nothing of the picture."""

    stride = 1

    def forward(self, L_B1HW: Tensor) -> Tensor:
        ab = torch.zeros(len(L_B1HW), 2, *L_B1HW.shape[2:])
        ab[:, 0, :, : L_B1HW.shape[3] // 2] = 60
        return ab


def test_a_network_without_bins_doubts_what_changes_with_the_mirror() -> None:
    ab, doubt = color_and_doubt(LeftIsRed(), torch.zeros(2, 1, 8, 8))
    assert ab[0, 0, 0].tolist() == [60.0] * 4 + [0.0] * 4
    assert doubt.min() == doubt.max() == pytest.approx(1 - np.exp(-3))


@pytest.mark.parametrize("name", ["unet", "lab_cnn"])
def test_asking_for_confidence_changes_no_color(name: str) -> None:
    torch.manual_seed(0)
    colorizer = Colorizer(create_model(name), size=64, precision="float32")
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
    colorizer = Colorizer(load_checkpoint(shipped_weights()["default"]).model)
    found = color_scans([grey_png(c) for c in crops], lambda g: colorizer.color(g, confidence=True), 256**2)
    errors = [_difference(picture, crop) for (picture, _), crop in zip(found, crops, strict=True)]
    order = np.argsort([confidence for _, confidence in found])
    least, rest = order[: len(order) // 10], order[len(order) // 10 :]
    assert np.mean(np.array(errors)[least]) > 1.25 * np.mean(np.array(errors)[rest])


def _difference(ours: np.ndarray, true: np.ndarray) -> float:
    lab = [rgb_to_lab(torch.from_numpy(np.array(p)).permute(2, 0, 1)[None].float() / 255) for p in (ours, true)]
    return ciede2000(*lab).mean().item()
