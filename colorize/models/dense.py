"""A single linear layer from 32 x 32 grey pixels to 32 x 32 RGB pixels, and two variants."""

from __future__ import annotations

from torch import Tensor, nn

from colorize.models.base import RgbModel

_SIDE = 32


class Dense(RgbModel):
    """L `(B, 1, 32, 32)` -> flatten -> dense 3,072 -> RGB `(B, 3, 32, 32)`."""

    stride = _SIDE
    canvas = _SIDE

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential()
        self.dense = nn.Linear(_SIDE**2, 3 * _SIDE**2)

    def rgb(self, L_B1HW: Tensor) -> Tensor:
        values = self.dense(self.first(L_B1HW / 100).flatten(1))
        out: Tensor = values.sigmoid().unflatten(1, (3, _SIDE, _SIDE))
        return out


class ConvDense(Dense):
    """A 3 x 3 convolution before the dense layer.

    Args:
        filters: of the convolution. Each adds 1,024 x 3,072 weights to the dense layer. The authors' number is
            not recorded.
    """

    def __init__(self, filters: int = 4) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, filters, 3, padding=1), nn.ReLU())
        self.dense = nn.Linear(filters * _SIDE**2, 3 * _SIDE**2)


class BnConvDense(ConvDense):
    """Batch normalization before the convolution. Arguments as in `ConvDense`."""

    def __init__(self, filters: int = 4) -> None:
        super().__init__(filters)
        self.first = nn.Sequential(nn.BatchNorm2d(1), *self.first)
