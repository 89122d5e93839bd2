"""What every colorization network is."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from colorize.errors import UsageError
from colorize.imaging.color import rgb_to_lab

AB_SCALE = 128.0  # Lab units: what networks that end in a tanh, and distances of ab, count as 1


class ColorModel(nn.Module):
    """A network that turns lightness into color, and knows nothing of files, formats or image sizes.

    Attributes:
        stride: the sides of an input must be multiples of it.
        canvas: it was made for inputs of about canvas x canvas pixels, and is shown no others; where `stride` is
            the same, for exactly those. None: any area will do.
        takes_hints: it is called as `model(L, ab, mask)` where a user has named colors.
    """

    stride: int = 1
    canvas: int | None = None
    takes_hints: bool = False

    def forward(self, L_B1HW: Tensor) -> Tensor:
        """L* in [0, 100] `(B, 1, H, W)` float32 -> ab `(B, 2, h, w)` float32, Lab units (about [-110, 110]).

        `h, w` cover the input and need not be `H, W`: the eye needs less resolution in color than in lightness.
        """
        raise NotImplementedError

    def color(self, L_B1HW: Tensor) -> Tensor:
        """What `forward` gives, at the resolution at which the network decides: nothing is enlarged yet."""
        ab: Tensor = self(L_B1HW)
        return ab

    def load_pretrained(self) -> None:
        """Start from published weights what can start from them; training only.

        Raises:
            UsageError: this network has no such part, or the package that holds the weights is not installed.
        """
        raise UsageError(f"{type(self).__name__} has no pretrained part: set model.pretrained=false")

    def encoder_stages(self) -> list[nn.Module]:
        """The parts that `load_pretrained` fills, finest first: they learn slower, or not at all."""
        return []


class BinModel(ColorModel):
    """A network that predicts a distribution over bins of the ab plane at each pixel.

    Attributes:
        bins_Q2: centers of the bins, Lab units.
        temperature: of an annealed mean: 1 is the mean of the distribution, towards 0 its mode. None: this network
            decodes in another way.
    """

    bins_Q2: Tensor  # noqa: N815 (the name carries the shape)
    temperature: float | None = None

    def logits(self, L_B1HW: Tensor) -> Tensor:
        """L* in [0, 100] `(B, 1, H, W)` -> unnormalized log-probabilities of the bins `(B, Q, h, w)`."""
        raise NotImplementedError

    def decode(self, logits_BQhw: Tensor) -> Tensor:
        """`logits` -> ab `(B, 2, h, w)`, float32, Lab units."""
        raise NotImplementedError

    def painted(self, logits_BQhw: Tensor, L_B1HW: Tensor) -> Tensor:
        """`decode`, corrected where a network knows itself to be wrong: what is used, while training sees `decode`."""
        return self.decode(logits_BQhw)

    def doubt(self, logits_BQhw: Tensor, ab_B2hw: Tensor, L_B1HW: Tensor) -> Tensor:
        """How unsure the network is of the color `ab` that was painted at each place: `(B, h, w)` in [0, 1]."""
        return entropy(logits_BQhw)

    def forward(self, L_B1HW: Tensor) -> Tensor:
        return self.painted(self.logits(L_B1HW), L_B1HW)


class RgbModel(ColorModel):
    """A network that paints whole images; of these only the color is kept, the scan has the better lightness.

    Attributes:
        enlarges: `rgb` is so many times higher and wider than its input.
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
    """Shannon's entropy of each distribution over the bins, over that of all bins being equally likely: `(B, h, w)`."""
    with torch.autocast(logits_BQhw.device.type, enabled=False):
        log_p_BhwQ = logits_BQhw.float().permute(0, 2, 3, 1).log_softmax(dim=-1)  # the last axis is the quickest
        return -(log_p_BhwQ.exp() * log_p_BhwQ).sum(dim=-1) / math.log(log_p_BhwQ.shape[-1])
