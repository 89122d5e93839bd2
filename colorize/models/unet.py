"""Our own network, and the default: pretrained encoder, global context, U-Net decoder, ab bins.

The head classifies each pixel into bins of the ab plane and decodes the mean of the sharpened distribution,
which keeps colors saturated where a regression would average them to grey-brown. Bins and decoding follow
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

EVEN = 0.43  # entropy at which `spread` changes nothing; chosen with the saturation of images like BSDS
FAR = 60.0  # Lab units of expected error at which nothing is left of the confidence
_BLACK = 16.0  # L* + 16 is proportional to the cube root of the luminance


class Unet(UnetTrunk, BinModel):
    """L -> ab at a quarter of the size, by way of a distribution over bins at each place.

    Args:
        grid: spacing of the ab bins in Lab units.
        temperature: of the annealed mean; 1 is the mean (dull, safe), towards 0 the mode (vivid, patchy).
        spread: how much more color cells get whose distribution is broad, and less those where it is narrow.
        shadows: L* below which chroma fades with the light; 0: nowhere.
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
        """Annealed mean of the bins: the mean of the distribution after sharpening it by the temperature."""
        with torch.autocast(logits_BQhw.device.type, enabled=False):
            sharpened = logits_BQhw.float().permute(0, 2, 3, 1) / self.temperature
            ab_BhwC = sharpened.softmax(dim=-1) @ self.bins_Q2
            return ab_BhwC.permute(0, 3, 1, 2)

    def painted(self, logits_BQhw: Tensor, L_B1HW: Tensor) -> Tensor:
        """`decode`, with more color where the network doubts and less where it is sure, and less in the shadows.

        On held-out images of every kind its narrow distributions overstate their color, and so do dark cells, since
        training darkens and lightens the grey that it sees but not the color (docs/model.md has the measurements).
        """
        with torch.autocast(logits_BQhw.device.type, enabled=False):
            factor = (self.spread * (entropy(logits_BQhw)[:, None] - EVEN)).exp()
            return self.decode(logits_BQhw) * factor * self._faded(L_B1HW)

    def doubt(self, logits_BQhw: Tensor, ab_B2hw: Tensor, L_B1HW: Tensor) -> Tensor:
        """The distance from `ab` at which the distribution expects the true color, as a part of `FAR`, at most 1.

        In the shadows it fades as chroma does: the distribution knows nothing of the light, but where there is little
        chroma to be wrong about errors are small. Without that, dark old slides seem the most doubtful of all.
        """
        with torch.autocast(logits_BQhw.device.type, enabled=False):
            distance_BhwQ = torch.cdist(ab_B2hw.float().permute(0, 2, 3, 1), self.bins_Q2)
            p_BhwQ = logits_BQhw.float().permute(0, 2, 3, 1).softmax(dim=-1)
            expected: Tensor = (p_BhwQ * distance_BhwQ).sum(dim=-1) * self._faded(L_B1HW)[:, 0]
            return (expected / FAR).clamp(max=1)

    def _faded(self, L_B1HW: Tensor) -> Tensor:
        """What is left of chroma in each cell's light."""
        return fading(nn.functional.avg_pool2d(L_B1HW.float(), self.output_stride), self.shadows)


def fading(L: Tensor, below: float) -> Tensor:
    """What is left of a surface's chroma in the shade: 1 from L* = `below` upward. Any shape, [0, 100] -> (0, 1].

    With less light on it its a* and b* shrink with L* + 16, the cube root of its luminance: the formulas of CIELAB
    (ISO/CIE 11664-4) above their linear part.
    """
    return ((L + _BLACK) / (below + _BLACK)).clamp(max=1)


def gamut_bins(grid: float) -> Tensor:
    """Centers of the ab grid that some L* brings into the sRGB gamut: `(Q, 2)`, Lab units, row by row.

    Computed on the CPU even where a network is built without memory: their number is known by their values alone.

    Raises:
        UsageError: a grid outside of [1, 110].
    """
    if not 1 <= grid <= 110:
        raise UsageError(f"grid={grid}: bins of color lie 1 to 110 Lab units apart")
    return _gamut_bins(grid).clone()


@lru_cache(maxsize=8)  # a network is built twice where a checkpoint is loaded: once without memory, for its shapes
def _gamut_bins(grid: float) -> Tensor:
    with torch.device("cpu"):
        steps = torch.arange(-int(110 / grid), int(110 / grid) + 1) * grid
        ab_N2 = torch.cartesian_prod(steps, steps)
        lightness = torch.arange(1.0, 100.0)
        lab = torch.stack([c.expand(len(ab_N2), len(lightness)) for c in (lightness, ab_N2[:, :1], ab_N2[:, 1:])])
        rgb = lab_to_rgb(lab, clip=False)
        in_gamut = ((rgb >= 0) & (rgb <= 1)).all(dim=0).any(dim=1)
        return ab_N2[in_gamut]
