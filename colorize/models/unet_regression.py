"""The study's plain head for `unet`: the color itself, for a distance as its loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from colorize.models.base import AB_SCALE
from colorize.models.unet_trunk import UnetTrunk


class UnetRegression(UnetTrunk):
    """L -> ab. An untrained one leaves images grey. Arguments are those of `UnetTrunk`."""

    def __init__(self, **trunk: Any) -> None:
        super().__init__(**trunk)
        self.head = nn.Conv2d(self.scales[-1], 2, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, L_B1HW: Tensor) -> Tensor:
        ab: Tensor = self.head(self.features(L_B1HW)[-1])
        return ab.float().tanh() * AB_SCALE
