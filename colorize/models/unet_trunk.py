"""The shared trunk of all `unet` heads: pretrained encoder, global context, U-Net decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from colorize.errors import UsageError
from colorize.models.base import ColorModel
from colorize.models.efficientnet_lite import ConvNorm, EfficientNetLite, pretrained_state


class UnetTrunk(ColorModel):
    """L, sides multiples of 32 -> features at a quarter or half of the size.

    Args:
        widths: decoder channels at 1/16, 1/8 and 1/4 of the input's size; at 1/2 half of the last.
        context: channels of the transformer blocks at 1/32, which make colors agree across an image.
        context_blocks: number of transformer blocks.
        output_stride: 4 or 2.
        encoder: the EfficientNet, "lite0", "lite1" or "lite2".
        drop: stochastic depth of the encoder; see `EfficientNetLite`.

    Attributes:
        scales: channels of `features`, coarsest first.
    """

    stride = 32

    def __init__(
        self,
        widths: Sequence[int] = (192, 128, 96),
        context: int = 256,
        context_blocks: int = 2,
        output_stride: int = 4,
        encoder: str = "lite0",
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        if output_stride not in (2, 4):
            raise UsageError(f"unet: output_stride={output_stride}: 2 or 4")
        self.output_stride = output_stride
        self.encoder_name, self.encoder = encoder, EfficientNetLite(encoder, drop=drop)
        finest, *skips, deepest = self.encoder.feature_channels
        if output_stride == 2:
            widths, skips = (*widths, widths[-1] // 2), [finest, *skips]
        self.scales = (context, *widths)
        self.reduce = ConvNorm(deepest, context, 1, linear=True)
        self.context = nn.Sequential(*(ContextBlock(context) for _ in range(context_blocks)))
        inputs = (context, *widths[:-1])
        self.decoder = nn.ModuleList(
            UpBlock(i, skip, o) for i, skip, o in zip(inputs, reversed(skips), widths, strict=True)
        )

    def features(self, L_B1HW: Tensor) -> list[Tensor]:
        """L* in [0, 100] `(B, 1, H, W)` -> the decoder's features at 1/32, 1/16, ... of its size, coarsest first."""
        *skips, deepest = self.encoder(L_B1HW / 100)
        features = [self.context(self.reduce(deepest))]
        for block, skip in zip(self.decoder, reversed(skips[-len(self.decoder) :]), strict=True):
            features.append(block(features[-1], skip))
        return features

    def load_pretrained(self) -> None:
        """Load ImageNet weights into the encoder. Raises MissingWeightsError without their package."""
        self.encoder.load_state_dict(pretrained_state(self.encoder_name), strict=True)

    def encoder_stages(self) -> list[nn.Module]:
        return [self.encoder.stem, *self.encoder.stages]


class UpBlock(nn.Module):
    """Upsample by 2, concatenate the skip connection, convolve."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.mix = ConvNorm(inputs + skip, outputs, 3)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        out: Tensor = self.mix(torch.cat((x, skip), dim=1))
        return out


class ContextBlock(nn.Module):
    """A pre-norm transformer block over all positions of `(B, C, h, w)`, with convolutional position encoding."""

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
