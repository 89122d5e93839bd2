"""The confidence study: its statistics match textbook formulas, and it uses the network as in production."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.confidence import WAYS, ImagePrediction, area_under_roc, groups, rank_correlation, table, tenths
from benchmarks.decodes import CANVAS
from benchmarks.distributions import Distributions, View
from benchmarks.kinds import greys
from colorize.models import BinModel
from colorize.models.checkpoint import load_checkpoint
from colorize.predict.model_files import find_model
from colorize.predict.torch_network import torch_colorizer
from tests.benchmarks.test_operating_point import image, weights

__all__ = ["weights"]  # a fixture


def test_the_rank_correlation_matches_spearman() -> None:
    values = np.arange(40.0)
    assert rank_correlation(values, values**3).value == pytest.approx(1)
    assert rank_correlation(values, -values).value == pytest.approx(-1)
    random = np.random.default_rng(0)
    found = rank_correlation(random.random(400), random.random(400))
    assert found.low < 0 < found.high
    assert 0.15 < found.high - found.low < 0.25  # about 4 / sqrt(400)


def test_tenths_and_areas_are_of_the_most_uncertain() -> None:
    uncertainty, error = np.arange(20.0), np.r_[np.ones(18), 5, 7]
    assert tenths(uncertainty, error) == (6, 1)
    assert area_under_roc(uncertainty, error > 2) == 1
    assert area_under_roc(-uncertainty, error > 2) == 0
    assert np.isnan(area_under_roc(uncertainty, error > 9))


@pytest.mark.slow
def test_every_method_has_a_row_and_the_shipped_one_matches_a_run(weights: str, tmp_path: Path) -> None:
    images = [image(seed, kind) for kind in ("Kodachromes", "modern") for seed in range(3)]
    found = find_model(weights)
    network = load_checkpoint(found.data).model.eval()
    assert isinstance(network, BinModel)
    known = Distributions(found, images, tmp_path)
    for view in (CANVAS, View(CANVAS.size, mirrored=True)):
        known.prepare(view)
    seen = [ImagePrediction(known, network, each, index) for index, each in enumerate(images)]
    with torch.inference_mode():
        uncertainties = {name: np.array([float(way(each)) for each in seen]) for name, way in WAYS.items()}
        errors, grey = np.array([each.errors() for each in seen]).T
    assert (errors > 0).all()
    assert len(list(table(uncertainties, errors, grey, groups(images)))) == len(WAYS) + 2
    colored = torch_colorizer(network, precision="float32").color(greys(images), confidence=True)
    assert [each.confidence for each in colored] == pytest.approx(list(1 - uncertainties["as shipped"]), abs=0.01)
