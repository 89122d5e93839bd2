"""Grey to RGB of three times the size: colorization and super-resolution at once.

The largest of the authors' three networks, 3.95 million parameters.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from colorize.models.base import RgbModel


class SuperresCnn(RgbModel):
    """L `(B, 1, 32, 32)` -> RGB `(B, 3, 96, 96)`. Fully convolutional: accepts other even sides."""

    stride = 2
    canvas = 32
    enlarges = 3

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_conv(1, 64),
            *_conv(64, 64, stride=2),
            *_conv(64, 128),
            nn.Upsample(scale_factor=4),
            *_conv(128, 128, stride=2),
            *_conv(128, 256),
            *_conv(256, 256, stride=2),
            *_conv(256, 512),
            *_conv(512, 256),
            *_conv(256, 128),
            nn.Upsample(scale_factor=3),
            nn.ZeroPad2d((1, 2, 1, 2)),  # "same" padding of an even kernel
            nn.Conv2d(128, 64, 4),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            *_conv(64, 32),
            nn.Conv2d(32, 3, 3, padding=1),
            nn.Sigmoid(),
        )

    def rgb(self, L_B1HW: Tensor) -> Tensor:
        out: Tensor = self.layers(L_B1HW / 100)
        return out

    def enlarge(self, L_B1HW: Tensor) -> Tensor:
        """L* of any size -> sRGB in [0, 1] `(B, 3, 3 * H, 3 * W)`, with the network's own lightness."""
        height, width = L_B1HW.shape[2:]
        even = F.pad(L_B1HW, (0, width % 2, 0, height % 2), mode="replicate")
        return self.rgb(even)[:, :, : 3 * height, : 3 * width]


def _conv(inputs: int, outputs: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.ReLU()
