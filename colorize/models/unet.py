"""The default network: pretrained encoder, global context, U-Net decoder, ab bins.

The head classifies each pixel into ab bins and decodes the annealed mean of the distribution, which keeps colors
saturated where a regression would average them to grey-brown. Bins and decoding follow
Zhang, Isola and Efros, "Colorful Image Colorization" (2016), https://arxiv.org/abs/1603.08511.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from colorize.errors import UsageError
from colorize.imaging.color import lab_to_rgb
from colorize.models.base import BinModel, entropy
from colorize.models.unet_trunk import UnetTrunk

EVEN = 0.43  # entropy at which `spread` changes nothing; tuned for the saturation of images like BSDS
FAR = 60.0  # Lab units: expected error at which the confidence is 0
_BLACK = 16.0  # L* + 16 is proportional to the cube root of the luminance


class Unet(UnetTrunk, BinModel):
    """L -> ab at a quarter of the size, through a distribution over ab bins at each pixel.

    Args:
        grid: spacing of the ab bins in Lab units.
        temperature: of the annealed mean; 1 is the mean (dull, safe), near 0 the mode (vivid, patchy).
        spread: boosts chroma where the distribution is broad and reduces it where it is narrow.
        shadows: L* below which chroma fades with lightness; 0: never.
        trunk: see `UnetTrunk`.
    """

    temperature: float

    def __init__(
        self,
        grid: float = 12.0,
        temperature: float = 0.85,
        spread: float = 1.0,
        shadows: float = 45.0,
        **trunk: Any,
    ) -> None:
        super().__init__(**trunk)
        self.temperature, self.spread, self.shadows = temperature, spread, shadows
        self.register_buffer("bins_Q2", gamut_bins(grid))
        self.head = nn.Conv2d(self.scales[-1], len(self.bins_Q2), 1)

    def logits(self, L_B1HW: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(L_B1HW)[-1])
        return out

    def decode(self, logits_BQhw: Tensor) -> Tensor:
        """Annealed mean of the bins."""
        with torch.autocast(logits_BQhw.device.type, enabled=False):
            sharpened = logits_BQhw.float().permute(0, 2, 3, 1) / self.temperature
            ab_BhwC = sharpened.softmax(dim=-1) @ self.bins_Q2
            return ab_BhwC.permute(0, 3, 1, 2)

    def color_from(self, logits_BQhw: Tensor, L_B1HW: Tensor) -> Tensor:
        """`decode`, with chroma corrected by entropy and lightness.

        On held-out images, chroma is too strong where the distribution is narrow or the image dark, since training
        augments the grey input but not its colors. Measurements: docs/model.md.
        """
        with torch.autocast(logits_BQhw.device.type, enabled=False):
            factor = (self.spread * (entropy(logits_BQhw)[:, None] - EVEN)).exp()
            return self.decode(logits_BQhw) * factor * self._faded(L_B1HW)

    def uncertainty(self, logits_BQhw: Tensor, ab_B2hw: Tensor, L_B1HW: Tensor) -> Tensor:
        """Expected distance between the true color and `ab`, divided by `FAR`, at most 1.

        It fades in the shadows as chroma does, where errors are small. Otherwise dark slides would seem most uncertain.
        """
        with torch.autocast(logits_BQhw.device.type, enabled=False):
            distance_BhwQ = torch.cdist(ab_B2hw.float().permute(0, 2, 3, 1), self.bins_Q2)
            p_BhwQ = logits_BQhw.float().permute(0, 2, 3, 1).softmax(dim=-1)
            expected: Tensor = (p_BhwQ * distance_BhwQ).sum(dim=-1) * self._faded(L_B1HW)[:, 0]
            return (expected / FAR).clamp(max=1)

    def _faded(self, L_B1HW: Tensor) -> Tensor:
        """Chroma factor of each output pixel."""
        return fading(nn.functional.avg_pool2d(L_B1HW.float(), self.output_stride), self.shadows)


def fading(L: Tensor, below: float) -> Tensor:
    """Factor by which chroma shrinks in the shade, 1 from L* = `below` upward. Any shape, [0, 100] -> (0, 1].

    Under less light, a surface's a* and b* shrink with L* + 16, the cube root of its luminance (ISO/CIE 11664-4).
    """
    return ((L + _BLACK) / (below + _BLACK)).clamp(max=1)


def gamut_bins(grid: float) -> Tensor:
    """Points of an ab grid that are in the sRGB gamut for some L*: `(Q, 2)`, Lab units, row by row.

    Always computed on the CPU, even under the meta device: Q depends on the values.

    Raises:
        UsageError: grid outside of [1, 110].
    """
    if not 1 <= grid <= 110:
        raise UsageError(f"grid={grid}: must be 1 to 110 Lab units")
    return _gamut_bins(grid).clone()


@lru_cache(maxsize=8)  # loading a checkpoint builds its network twice, first on the meta device
def _gamut_bins(grid: float) -> Tensor:
    with torch.device("cpu"):
        steps = torch.arange(-int(110 / grid), int(110 / grid) + 1) * grid
        ab_N2 = torch.cartesian_prod(steps, steps)
        lightness = torch.arange(1.0, 100.0)
        lab = torch.stack([c.expand(len(ab_N2), len(lightness)) for c in (lightness, ab_N2[:, :1], ab_N2[:, 1:])])
        rgb = lab_to_rgb(lab, clip=False)
        in_gamut = ((rgb >= 0) & (rgb <= 1)).all(dim=0).any(dim=1)
        return ab_N2[in_gamut]
