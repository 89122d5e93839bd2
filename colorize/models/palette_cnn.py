"""Classifies each pixel into a small palette, found by k-means over the training images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from colorize.models.base import RgbModel

_SIDE = 32
_FEATURES = 256 * 3 * 3  # output of three unpadded 3 x 3 convolutions of stride 2 for 32 x 32 pixels


class PaletteCnn(RgbModel):
    """L `(B, 1, 32, 32)` -> linear layer of 4,096 -> one of 4 colors for each of 1,024 pixels.

    Args:
        colors: size of the palette.
        temperature: near 0 a pixel gets its most likely color, as in the original; at 1 the mean of all.

    Attributes:
        palette_K3: sRGB in [0, 1]; greys until training fits it. Saved in the checkpoint.
    """

    stride = _SIDE
    canvas = _SIDE
    palette_K3: Tensor  # noqa: N815 (the name carries the shape)

    def __init__(self, colors: int = 4, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature
        self.register_buffer("palette_K3", torch.linspace(0, 1, colors)[:, None].repeat(1, 3))
        self.layers = nn.Sequential(
            nn.Conv2d(1, 64, 3, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 128, 3, stride=2),
            nn.ReLU(),
            nn.Conv2d(128, 256, 3, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(_FEATURES, _SIDE**2 * colors),
        )

    def logits(self, L_B1HW: Tensor) -> Tensor:
        """L* in [0, 100] `(B, 1, 32, 32)` -> logits of the palette's colors `(B, K, 32, 32)`."""
        logits_BNK: Tensor = self.layers(L_B1HW / 100).reshape(L_B1HW.shape[0], _SIDE**2, -1)
        return logits_BNK.transpose(1, 2).reshape(L_B1HW.shape[0], -1, _SIDE, _SIDE)

    def rgb(self, L_B1HW: Tensor) -> Tensor:
        logits = self.logits(L_B1HW)
        with torch.autocast(logits.device.type, enabled=False):
            shares = (logits.float() / self.temperature).softmax(dim=1)
            return torch.einsum("bkhw,kc->bchw", shares, self.palette_K3)

    def classify(self, rgb_B3HW: Tensor) -> Tensor:
        """Index of the nearest palette color: sRGB `(B, 3, H, W)` -> `(B, H, W)`, int64."""
        distance = torch.cdist(rgb_B3HW.permute(0, 2, 3, 1).flatten(0, 2), self.palette_K3)
        return distance.argmin(dim=1).reshape(len(rgb_B3HW), *rgb_B3HW.shape[2:])
