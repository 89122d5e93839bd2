"""Base classes of the colorization networks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from colorize.errors import UsageError
from colorize.imaging.color import rgb_to_lab

AB_SCALE = 128.0  # Lab units: networks that end in a tanh, and losses of ab, are scaled by it


class ColorModel(nn.Module):
    """A network that predicts color from lightness. It takes model-ready tensors only.

    Attributes:
        stride: the sides of an input must be multiples of it.
        canvas: inputs are scaled to about canvas x canvas pixels, or exactly that if `stride` is the same.
            None: any size.
        takes_hints: `model(L, ab, mask)` accepts colors that a user chose.
    """

    stride: int = 1
    canvas: int | None = None
    takes_hints: bool = False

    def forward(self, L_B1HW: Tensor) -> Tensor:
        """L* in [0, 100] `(B, 1, H, W)` float32 -> ab `(B, 2, h, w)` float32, Lab units (about [-110, 110]).

        `h, w` cover the whole input, often at a lower resolution.
        """
        raise NotImplementedError

    def color(self, L_B1HW: Tensor) -> Tensor:
        """`forward` at the resolution of the prediction, before any upsampling."""
        ab: Tensor = self(L_B1HW)
        return ab

    def load_pretrained(self) -> None:
        """Load pretrained encoder weights, to start a training.

        Raises:
            UsageError: no pretrained part, or the package with the weights is not installed.
        """
        raise UsageError(f"{type(self).__name__} has no pretrained part: set model.pretrained=false")

    def encoder_stages(self) -> list[nn.Module]:
        """The modules that `load_pretrained` fills, finest first. They train at a lower rate or stay frozen."""
        return []


class BinModel(ColorModel):
    """A network that predicts a distribution over ab bins at each pixel.

    Attributes:
        bins_Q2: centers of the bins, Lab units.
        temperature: of the annealed mean: 1 is the mean of the distribution, near 0 the mode. None: not used.
    """

    bins_Q2: Tensor  # noqa: N815 (the name carries the shape)
    temperature: float | None = None

    def logits(self, L_B1HW: Tensor) -> Tensor:
        """L* in [0, 100] `(B, 1, H, W)` -> unnormalized log-probabilities of the bins `(B, Q, h, w)`."""
        raise NotImplementedError

    def decode(self, logits_BQhw: Tensor) -> Tensor:
        """`logits` -> ab `(B, 2, h, w)`, float32, Lab units."""
        raise NotImplementedError

    def color_from(self, logits_BQhw: Tensor, L_B1HW: Tensor) -> Tensor:
        """`decode` with corrections for inference; training uses `decode`."""
        return self.decode(logits_BQhw)

    def uncertainty(self, logits_BQhw: Tensor, ab_B2hw: Tensor, L_B1HW: Tensor) -> Tensor:
        """Uncertainty of the predicted `ab` at each pixel: `(B, h, w)` in [0, 1]."""
        return entropy(logits_BQhw)

    def forward(self, L_B1HW: Tensor) -> Tensor:
        return self.color_from(self.logits(L_B1HW), L_B1HW)


class RgbModel(ColorModel):
    """A network that predicts RGB. Only its ab is kept; the lightness comes from the scan.

    Attributes:
        enlarges: scale factor from the input to `rgb`.
    """

    enlarges: int = 1

    def rgb(self, L_B1HW: Tensor) -> Tensor:
        """L* in [0, 100] `(B, 1, H, W)` -> sRGB in [0, 1] `(B, 3, enlarges * H, enlarges * W)`."""
        raise NotImplementedError

    def forward(self, L_B1HW: Tensor) -> Tensor:
        rgb = self.rgb(L_B1HW)
        with torch.autocast(rgb.device.type, enabled=False):
            return rgb_to_lab(rgb.float())[:, 1:]


def entropy(logits_BQhw: Tensor) -> Tensor:
    """Shannon entropy of each distribution, divided by that of the uniform one: `(B, h, w)` in [0, 1]."""
    with torch.autocast(logits_BQhw.device.type, enabled=False):
        log_p_BhwQ = logits_BQhw.float().permute(0, 2, 3, 1).log_softmax(dim=-1)  # the last axis is the quickest
        return -(log_p_BhwQ.exp() * log_p_BhwQ).sum(dim=-1) / math.log(log_p_BhwQ.shape[-1])
