"""The published network with color hints.

Zhang, Zhu, Isola, Geng, Lin, Yu and Efros, "Real-Time User-Guided Image Colorization with Learned Deep Priors"
(2017), https://arxiv.org/abs/1705.02999.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from colorize.models.eccv16 import AB_SCALE, group
from colorize.models.published import PublishedModel, padded_to_stride

_CLASSES = 529  # of the classification head, used in the authors' training only


class Siggraph17(PublishedModel):
    """L of any size, and optional hints -> ab of the same size.

    Args:
        width: channels of the first group; the widest ones have 8 times as many.
    """

    stride = 8
    takes_hints = True

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.width = width
        w1, w2, w4, w8 = (width * times for times in (1, 2, 4, 8))
        self.model1 = group(4, w1, 2)
        self.model2 = group(w1, w2, 2)
        self.model3 = group(w2, w4, 3)
        self.model4 = group(w4, w8, 3)
        self.model5 = group(w8, w8, 3, dilation=2)
        self.model6 = group(w8, w8, 3, dilation=2)
        self.model7 = group(w8, w8, 3)
        self.model8up, self.model3short8 = _up(w8, w4), nn.Sequential(_conv(w4, w4))
        self.model8 = nn.Sequential(nn.ReLU(), *group(w4, w4, 2))
        self.model9up, self.model2short9 = _up(w4, w2), nn.Sequential(_conv(w2, w2))
        self.model9 = nn.Sequential(nn.ReLU(), *group(w2, w2, 1))
        self.model10up, self.model1short10 = _up(w2, w2), nn.Sequential(_conv(w1, w2))
        self.model10 = nn.Sequential(nn.ReLU(), _conv(w2, w2), nn.LeakyReLU(0.2))
        self.model_out = nn.Sequential(nn.Conv2d(w2, 2, 1))

    def forward(self, L_B1HW: Tensor, ab_B2HW: Tensor | None = None, mask_B1HW: Tensor | None = None) -> Tensor:
        """ab `(B, 2, H, W)`, Lab units.

        Args:
            L_B1HW: L* in [0, 100].
            ab_B2HW: hints, Lab units; ignored where `mask_B1HW` is 0.
            mask_B1HW: 1 at hints, else 0.
        """
        if mask_B1HW is None or ab_B2HW is None:
            ab_B2HW, mask_B1HW = L_B1HW.new_zeros(1).expand(len(L_B1HW), 2, *L_B1HW.shape[2:]), L_B1HW * 0
        x_B4HW = torch.cat(((L_B1HW - 50) / 100, ab_B2HW * mask_B1HW / AB_SCALE, mask_B1HW), dim=1)
        return padded_to_stride(self._color, self.stride, x_B4HW)

    def _color(self, x_B4HW: Tensor) -> Tensor:
        fine = self.model1(x_B4HW)
        half = self.model2(fine[:, :, ::2, ::2])
        quarter = self.model3(half[:, :, ::2, ::2])
        x = self.model7(self.model6(self.model5(self.model4(quarter[:, :, ::2, ::2]))))
        x = self.model8(self.model8up(x) + self.model3short8(quarter))
        x = self.model9(self.model9up(x) + self.model2short9(half))
        x = self.model10(self.model10up(x) + self.model1short10(fine))
        ab: Tensor = self.model_out(x)
        return ab.float().tanh() * AB_SCALE

    def published_shapes(self) -> dict[str, torch.Size]:
        """The file also contains a classification head, unused here."""
        weight, bias = (_CLASSES, 4 * self.width, 1, 1), (_CLASSES,)
        return super().published_shapes() | {
            "model_class.0.weight": torch.Size(weight),
            "model_class.0.bias": torch.Size(bias),
        }


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _up(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1))
