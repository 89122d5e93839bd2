"""L in, ab out: an hourglass of 3 x 3 convolutions, strided on the way down, up-sampled on the way up, no pooling.

With the widths as they are it has 1.53 million parameters; the authors' networks had 0.96 to 1.55 million.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from colorize.models.base import AB_SCALE, ColorModel


class LabCnn(ColorModel):
    """L -> ab of the same size, `(B, 2, H, W)`. 8 divides both sides of an input.

    Args:
        widths: channels at the full size (and at a half), at a half (a quarter), at a quarter (an eighth).
        dropout: fraction of the deepest values that training leaves out at random.
        canvas: side of the images that it is trained on, if it is to see no others: 32 for CIFAR-10.
    """

    stride = 8

    def __init__(self, widths: Sequence[int] = (64, 128, 256), dropout: float = 0.2, canvas: int | None = None) -> None:
        super().__init__()
        self.canvas = canvas
        fine, middle, deep = widths
        self.layers = nn.Sequential(
            *_conv(1, fine),
            *_conv(fine, fine, stride=2),
            *_conv(fine, middle),
            *_conv(middle, middle, stride=2),
            *_conv(middle, deep),
            *_conv(deep, deep, stride=2),
            nn.Dropout(dropout),
            *_conv(deep, middle),
            nn.Upsample(scale_factor=2),
            *_conv(middle, fine),
            nn.Upsample(scale_factor=2),
            *_conv(fine, fine // 2),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(fine // 2, 2, 3, padding=1),
        )

    def forward(self, L_B1HW: Tensor) -> Tensor:
        ab: Tensor = self.layers(L_B1HW / 100)
        return ab.float().tanh() * AB_SCALE


def _conv(inputs: int, outputs: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.ReLU()
