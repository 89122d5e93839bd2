"""Our own network, and the default: pretrained encoder, global context, U-Net decoder, ab bins.

The head classifies each pixel into bins of the ab plane and decodes the mean of the sharpened distribution,
which keeps colors saturated where a regression would average them to grey-brown. Bins and decoding follow
Zhang, Isola and Efros, "Colorful Image Colorization" (2016), https://arxiv.org/abs/1603.08511.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from colorize.imaging.color import lab_to_rgb
from colorize.models.base import BinModel
from colorize.models.unet_trunk import UnetTrunk


class Unet(UnetTrunk, BinModel):
    """L -> ab at a quarter of the size, by way of a distribution over bins at each place.

    Args:
        grid: spacing of the ab bins in Lab units.
        temperature: of the annealed mean; 1 is the mean (dull, safe), towards 0 the mode (vivid, patchy).
        trunk: see `UnetTrunk`.
    """

    temperature: float

    def __init__(self, grid: float = 12.0, temperature: float = 0.38, **trunk: Any) -> None:
        super().__init__(**trunk)
        self.temperature = temperature
        self.register_buffer("bins_Q2", gamut_bins(grid))
        self.head = nn.Conv2d(self.scales[-1], len(self.bins_Q2), 1)

    def logits(self, L_B1HW: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(L_B1HW)[-1])
        return out

    def decode(self, logits_BQhw: Tensor) -> Tensor:
        """Annealed mean of the bins: the mean of the distribution after sharpening it by the temperature."""
        with torch.autocast(logits_BQhw.device.type, enabled=False):
            sharpened = logits_BQhw.float().permute(0, 2, 3, 1) / self.temperature
            ab_BhwC = sharpened.softmax(dim=-1) @ self.bins_Q2
            return ab_BhwC.permute(0, 3, 1, 2)


def gamut_bins(grid: float) -> Tensor:
    """Centers of the ab grid that some L* brings into the sRGB gamut: `(Q, 2)`, Lab units, row by row."""
    steps = torch.arange(-int(110 / grid), int(110 / grid) + 1) * grid
    ab_N2 = torch.cartesian_prod(steps, steps)
    lightness = torch.arange(1.0, 100.0)
    lab = torch.stack([c.expand(len(ab_N2), len(lightness)) for c in (lightness, ab_N2[:, :1], ab_N2[:, 1:])])
    rgb = lab_to_rgb(lab, clip=False)
    in_gamut = ((rgb >= 0) & (rgb <= 1)).all(dim=0).any(dim=1)
    return ab_N2[in_gamut]
