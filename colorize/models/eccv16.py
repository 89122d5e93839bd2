"""The published classifier over 313 ab bins.

Zhang, Isola and Efros, "Colorful Image Colorization" (2016), https://arxiv.org/abs/1603.08511.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from colorize.models.base import BinModel
from colorize.models.published import PublishedModel, padded_to_stride
from colorize.models.unet import gamut_bins

AB_SCALE = 110.0  # these authors scale ab by 110
_BINS = 313
_GRID = 10.0  # spacing of the bins, Lab units
_CELL = 4  # the prediction's stride in pixels
_COLORS = "model_out.weight"  # the published key of the bins


class Eccv16(BinModel, PublishedModel):
    """L of any size -> ab of the same size, predicted at a quarter of the resolution.

    Args:
        width: channels of the first group; later ones have 2, 4 and 8 times as many.
    """

    stride = 8

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        w1, w2, w4, w8 = (width * times for times in (1, 2, 4, 8))
        self.model1 = group(1, w1, 2, stride=2)
        self.model2 = group(w1, w2, 2, stride=2)
        self.model3 = group(w2, w4, 3, stride=2)
        self.model4 = group(w4, w8, 3)
        self.model5 = group(w8, w8, 3, dilation=2)
        self.model6 = group(w8, w8, 3, dilation=2)
        self.model7 = group(w8, w8, 3)
        up = nn.ConvTranspose2d(w8, w4, 4, stride=2, padding=1)
        mix = [layer for _ in range(2) for layer in (nn.ReLU(), nn.Conv2d(w4, w4, 3, padding=1))]
        self.model8 = nn.Sequential(up, *mix, nn.ReLU(), nn.Conv2d(w4, _BINS, 1))
        self.register_buffer("bins_Q2", _bins().clone())

    def logits(self, L_B1HW: Tensor) -> Tensor:
        x = (L_B1HW - 50) / 100
        for layers in (self.model1, self.model2, self.model3, self.model4, self.model5, self.model6, self.model7):
            x = layers(x)
        out: Tensor = self.model8(x)
        return out

    def decode(self, logits_BQhw: Tensor) -> Tensor:
        """The mean of the distribution."""
        with torch.autocast(logits_BQhw.device.type, enabled=False):
            return torch.einsum("bqhw,qc->bchw", logits_BQhw.float().softmax(dim=1), self.bins_Q2)

    def forward(self, L_B1HW: Tensor, enlarge: bool = True) -> Tensor:
        """ab, upsampled bilinearly to `(B, 2, H, W)` as the authors do, or at a quarter of the resolution."""
        return padded_to_stride(self._enlarged, self.stride, L_B1HW) if enlarge else super().forward(L_B1HW)

    def color(self, L_B1HW: Tensor) -> Tensor:
        ab: Tensor = self(L_B1HW, enlarge=False)
        return ab

    def published_shapes(self) -> dict[str, torch.Size]:
        shapes = super().published_shapes()
        del shapes["bins_Q2"]
        return {**shapes, _COLORS: torch.Size((2, _BINS, 1, 1))}

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of the authors' last layer are the bin centers."""
        return super().from_published({**state, "bins_Q2": state[_COLORS].flatten(1).T * AB_SCALE})

    def _enlarged(self, L_B1HW: Tensor) -> Tensor:
        return F.interpolate(super().forward(L_B1HW), scale_factor=_CELL, mode="bilinear")


def group(inputs: int, outputs: int, count: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """`count` convolutions with ReLU, the last one strided, then batch normalization."""
    layers: list[nn.Module] = []
    for index in range(count):
        step = stride if index == count - 1 else 1
        conv = nn.Conv2d(inputs if index == 0 else outputs, outputs, 3, step, padding=dilation, dilation=dilation)
        layers += [conv, nn.ReLU()]
    return nn.Sequential(*layers, nn.BatchNorm2d(outputs))


@cache
def _bins() -> Tensor:
    """The 313 points of a grid of 10 in or nearest to the sRGB gamut: `(313, 2)`, Lab units.

    The paper does not list its bins. Published weights replace these.
    """
    with torch.device("cpu"):  # see `gamut_bins`
        steps = torch.arange(-12, 13) * _GRID
        grid_N2 = torch.cartesian_prod(steps, steps)
        distance = torch.cdist(grid_N2, gamut_bins(_GRID / 2)).amin(dim=1)
        return grid_N2[distance.argsort(stable=True)[:_BINS].sort().values]
