"""Our own network, and the default: pretrained encoder, global context, U-Net decoder, ab bins.

The head classifies each pixel into bins of the ab plane and decodes the mean of the sharpened distribution,
which keeps colors saturated where a regression would average them to grey-brown. Bins and decoding follow
Zhang, Isola and Efros, "Colorful Image Colorization" (2016), https://arxiv.org/abs/1603.08511.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from colorize.color import lab_to_rgb
from colorize.models.base import BinModel
from colorize.models.efficientnet_lite import FEATURE_CHANNELS, ConvNorm, EfficientNetLite0, pretrained_state


class Unet(BinModel):
    """L -> ab at a quarter of the size. 32 divides both sides of an input; any such size is accepted.

    Args:
        widths: channels of the decoder at 1/16, 1/8 and 1/4 of the input's size.
        context: channels of the transformer blocks at 1/32, which make colors agree across a picture.
        context_blocks: how many of them.
        grid: spacing of the ab bins in Lab units.
        temperature: of the annealed mean; 1 is the mean (dull, safe), towards 0 the mode (vivid, patchy).
    """

    stride = 32
    output_stride = 4

    def __init__(
        self,
        widths: Sequence[int] = (192, 128, 96),
        context: int = 256,
        context_blocks: int = 2,
        grid: float = 12.0,
        temperature: float = 0.38,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.register_buffer("bins_Q2", gamut_bins(grid))
        _, *skips, deepest = FEATURE_CHANNELS
        self.encoder = EfficientNetLite0()
        self.reduce = ConvNorm(deepest, context, 1, linear=True)
        self.context = nn.Sequential(*(ContextBlock(context) for _ in range(context_blocks)))
        inputs = (context, *widths[:-1])
        self.decoder = nn.ModuleList(
            UpBlock(i, skip, o) for i, skip, o in zip(inputs, reversed(skips), widths, strict=True)
        )
        self.head = nn.Conv2d(widths[-1], len(self.bins_Q2), 1)

    def logits(self, L_B1HW: Tensor) -> Tensor:
        *features, deepest = self.encoder(L_B1HW / 100)
        x = self.context(self.reduce(deepest))
        for block, skip in zip(self.decoder, reversed(features[1:]), strict=True):
            x = block(x, skip)
        out: Tensor = self.head(x)
        return out

    def decode(self, logits_BQhw: Tensor) -> Tensor:
        """Annealed mean of the bins: the mean of the distribution after sharpening it by the temperature."""
        with torch.autocast(logits_BQhw.device.type, enabled=False):
            sharpened = logits_BQhw.float().permute(0, 2, 3, 1) / self.temperature
            ab_BhwC = sharpened.softmax(dim=-1) @ self.bins_Q2
            return ab_BhwC.permute(0, 3, 1, 2)

    def load_pretrained(self) -> None:
        """Start the encoder from ImageNet weights. Raises ModuleNotFoundError without their package."""
        self.encoder.load_state_dict(pretrained_state(), strict=True)

    def encoder_stages(self) -> list[nn.Module]:
        return [self.encoder.stem, *self.encoder.stages]


class UpBlock(nn.Module):
    """Double the size, join the encoder's features of that size, mix both."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.mix = ConvNorm(inputs + skip, outputs, 3)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        out: Tensor = self.mix(torch.cat((x, skip), dim=1))
        return out


class ContextBlock(nn.Module):
    """A pre-norm transformer block over all positions of `(B, C, h, w)`; a convolution tells them apart."""

    def __init__(self, channels: int, head_channels: int = 32) -> None:
        super().__init__()
        self.heads = channels // head_channels
        self.position = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.attention_norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)
        self.mlp_norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def forward(self, x_BChw: Tensor) -> Tensor:
        x = (x_BChw + self.position(x_BChw)).flatten(2).transpose(1, 2)
        x = x + self._attend(self.attention_norm(x))
        x = x + self.mlp(self.mlp_norm(x))
        out: Tensor = x.transpose(1, 2).reshape(x_BChw.shape)
        return out

    def _attend(self, x_BNC: Tensor) -> Tensor:
        q, k, v = self.qkv(x_BNC).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.project(mixed.transpose(1, 2).flatten(2))
        return out


def gamut_bins(grid: float) -> Tensor:
    """Centers of the ab grid that some L* brings into the sRGB gamut: `(Q, 2)`, Lab units, row by row."""
    steps = torch.arange(-int(110 / grid), int(110 / grid) + 1) * grid
    ab_N2 = torch.cartesian_prod(steps, steps)
    lightness = torch.arange(1.0, 100.0)
    lab = torch.stack([c.expand(len(ab_N2), len(lightness)) for c in (lightness, ab_N2[:, :1], ab_N2[:, 1:])])
    rgb = lab_to_rgb(lab, clip=False)
    in_gamut = ((rgb >= 0) & (rgb <= 1)).all(dim=0).any(dim=1)
    return ab_N2[in_gamut]
