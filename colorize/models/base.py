"""What every colorization network is."""

from __future__ import annotations

from torch import Tensor, nn

from colorize.config import UsageError


class ColorModel(nn.Module):
    """A network that turns lightness into color, and knows nothing of files, formats or picture sizes.

    Attributes:
        stride: the sides of an input must be multiples of it.
    """

    stride: int = 1

    def forward(self, L_B1HW: Tensor) -> Tensor:
        """L* in [0, 100] `(B, 1, H, W)` float32 -> ab `(B, 2, h, w)` float32, Lab units (about [-110, 110]).

        `h, w` may be smaller than `H, W`: the eye needs less resolution in color than in lightness.
        """
        raise NotImplementedError

    def load_pretrained(self) -> None:
        """Start from published weights what can start from them; training only.

        Raises:
            UsageError: this network has no such part.
            ModuleNotFoundError: the package that holds the weights is not installed.
        """
        raise UsageError(f"{type(self).__name__} has no pretrained part: set model.pretrained=false")

    def encoder_stages(self) -> list[nn.Module]:
        """The parts that `load_pretrained` fills, finest first: they learn slower, or not at all."""
        return []


class BinModel(ColorModel):
    """A network that predicts a distribution over bins of the ab plane at each pixel.

    Attributes:
        bins_Q2: centers of the bins, Lab units.
    """

    bins_Q2: Tensor  # noqa: N815 (the name carries the shape)

    def logits(self, L_B1HW: Tensor) -> Tensor:
        """L* in [0, 100] `(B, 1, H, W)` -> unnormalized log-probabilities of the bins `(B, Q, h, w)`."""
        raise NotImplementedError

    def decode(self, logits_BQhw: Tensor) -> Tensor:
        """`logits` -> ab `(B, 2, h, w)`, float32, Lab units."""
        raise NotImplementedError

    def forward(self, L_B1HW: Tensor) -> Tensor:
        return self.decode(self.logits(L_B1HW))
