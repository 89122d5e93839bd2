"""The model cost benchmark: its counts match hand calculation."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from benchmarks.model_cost import measure, row
from colorize.models import ColorModel


class OneConvolution(ColorModel):
    """1 -> 2 channels, 3 x 3: 18 weights and 2 biases; each of 32 x 32 pixels costs 18 multiplications."""

    canvas = 32

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, L_B1HW: Tensor) -> Tensor:
        ab: Tensor = self.layer(L_B1HW)
        return ab


@pytest.mark.slow
def test_parameters_and_arithmetic_are_counted() -> None:
    cost = measure(OneConvolution(), seconds=0)
    assert (cost.parameters, cost.side) == (20, 32)
    assert cost.gflop == pytest.approx(2 * 18 * 32 * 32 / 1e9)
    assert cost.wall_seconds > 0
    assert row("one", cost).startswith("| `one` | 0.00 M | 32 x 32 | 3.69e-05 |")
