"""Comparison of weights at equal colorfulness."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.compare_weights import SATURATIONS, gain_at, trade
from colorize.imaging.color import rgb_to_lab
from colorize.models import ColorModel


class Knowing(ColorModel):
    """Gives each image one uniform color."""

    def forward(self, L_B1HW: Tensor) -> Tensor:
        ab = rgb_to_lab(torch.tensor([0.75, 0.5, 0.25]).reshape(1, 3, 1, 1))[:, 1:]
        return ab.expand(len(L_B1HW), 2, 8, 8)


def test_the_true_color_gains_most_at_full_saturation() -> None:
    random = torch.Generator().manual_seed(0)
    light = torch.rand(4, 1, 16, 16, generator=random).repeat_interleave(16, 2).repeat_interleave(16, 3) * 0.2 + 0.9
    rgb = (torch.tensor([0.75, 0.5, 0.25]).reshape(1, 3, 1, 1) * light * 255).clamp(0, 255).byte()
    found = trade(Knowing(), rgb)
    assert found.shape == (len(SATURATIONS), 3, 4)
    assert SATURATIONS[int(found[:, 0].mean(axis=1).argmax())] == 1.0
    assert found[SATURATIONS.index(1.0), 1] == pytest.approx(found[0, 2], rel=0.2)


def test_the_gain_is_interpolated_between_two_saturations() -> None:
    found = np.zeros((2, 3, 5), np.float32)
    found[:, 0] = [[1.0], [3.0]]
    found[:, 1], found[:, 2] = [[0.4], [0.8]], 1.0
    assert gain_at(found, 0.6) == pytest.approx(2.0)
    assert np.isnan(gain_at(found, 0.9))
