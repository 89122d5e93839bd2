"""L to ab by an hourglass of 3 x 3 convolutions: strided down, upsampled, no pooling.

1.53 million parameters by default; the authors' networks had 0.96 to 1.55 million.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from colorize.models.base import AB_SCALE, ColorModel


class LabCnn(ColorModel):
    """L, sides multiples of 8 -> ab of the same size.

    Args:
        widths: channels of the three levels, finest first.
        dropout: of the deepest features.
        canvas: size of its inputs in training and use, such as 32 for CIFAR-10; None for any.
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
