"""ConvNeXt as an encoder: features at four scales.

Liu, Mao, Wu, Feichtenhofer, Darrell and Xie, "A ConvNet for the 2020s" (2022), https://arxiv.org/abs/2201.03545.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_EPS = 1e-6


class ConvNext(nn.Module):
    """Normalized RGB `(B, 3, H, W)`, sides multiples of 32 -> features at 1/4, 1/8, 1/16 and 1/32 of the size.

    The returned features are layer-normalized; each stage continues from the unnormalized ones.

    Args:
        depths: blocks of each stage.
        widths: channels of each stage.
    """

    def __init__(self, depths: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, widths[0], 4, stride=4), ChannelNorm(widths[0]))
        halvings = [
            nn.Sequential(ChannelNorm(fine), nn.Conv2d(fine, coarse, 2, stride=2))
            for fine, coarse in itertools.pairwise(widths)
        ]
        self.downsample_layers = nn.ModuleList([stem, *halvings])
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width) for _ in range(depth))) for depth, width in zip(depths, widths, strict=True)
        )
        for index, width in enumerate(widths):
            self.add_module(f"norm{index}", ChannelNorm(width))

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for index, (down, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            x = stage(down(x))
            features.append(self.get_submodule(f"norm{index}")(x))
        return features


class Block(nn.Module):
    """Depthwise 7 x 7 convolution, layer norm and inverted bottleneck, with layer scale and a residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), 1e-6))
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=_EPS)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        out: Tensor = x + y.permute(0, 3, 1, 2)
        return out


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of `(B, C, h, w)`."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
