"""An encoder-decoder generator, and the discriminator for its adversarial training.

After Nazeri, Ng and Ebrahimi, "Image Colorization using Generative Adversarial Networks" (2018),
https://arxiv.org/abs/1803.05400, with additive instead of concatenated skip connections.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from colorize.models.base import AB_SCALE, ColorModel

_DEPTH = 4


class Gan(ColorModel):
    """The generator: L, sides multiples of 8 -> ab of the same size.

    Each encoder layer but the first halves the size and doubles the channels: 128 x 128 pixels become 16 x 16 x 512.

    Args:
        width: channels of the first layer.
        canvas: size of its inputs in training and use; None for any.
    """

    stride = 2 ** (_DEPTH - 1)

    def __init__(self, width: int = 64, canvas: int | None = 128) -> None:
        super().__init__()
        self.canvas = canvas
        widths = [width * 2**depth for depth in range(_DEPTH)]
        pairs = list(itertools.pairwise(widths))
        self.first = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU())
        self.down = nn.ModuleList(_halve(fine, coarse, nn.ReLU()) for fine, coarse in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(c, f, 4, stride=2, padding=1) for f, c in reversed(pairs))
        self.last = nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, L_B1HW: Tensor) -> Tensor:
        features = [self.first(L_B1HW / 100)]
        for layer in self.down:
            features.append(layer(features[-1]))
        x = features.pop()
        for layer in self.up:
            x = torch.relu(layer(x) + features.pop())
        ab: Tensor = self.last(x)
        return ab.float().tanh() * AB_SCALE


class Discriminator(nn.Module):
    """Classifies images as photographs (logit above 0) or colorized.

    Args:
        width: channels of the first layer.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        widths = [width * 2**depth for depth in range(_DEPTH)]
        layers = [_halve(f, c, nn.LeakyReLU(0.2)) for f, c in itertools.pairwise(widths)]
        first = nn.Sequential(nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2))
        self.layers = nn.Sequential(first, *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.verdict = nn.Linear(widths[-1], 1)

    def forward(self, lab_B3HW: Tensor) -> Tensor:
        """Lab scaled to about [-1, 1], `(B, 3, H, W)`, sides of at least 16 -> logits `(B,)`."""
        out: Tensor = self.verdict(self.layers(lab_B3HW))
        return out.squeeze(1)


def _halve(inputs: int, outputs: int, activation: nn.Module) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), activation)
