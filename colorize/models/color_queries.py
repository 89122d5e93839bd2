"""Learned color queries that attend to image features at three scales and predict one map each.

The color decoder of DDColor, after Mask2Former (Cheng et al. 2022, https://arxiv.org/abs/2112.01527).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_TEMPERATURE = 10_000.0  # of the positions' wavelengths


class ColorQueries(nn.Module):
    """Features at three scales and a full-size embedding of each pixel -> a map for each query.

    Args:
        inputs: channels of the features, coarsest first.
        channels: of queries and pixel embeddings.
        queries: number of queries.
        layers: attention layers; they cycle through the scales.
        heads: attention heads.
        hidden: channels in the feed-forward layers.
    """

    def __init__(
        self, inputs: Sequence[int], channels: int = 256, queries: int = 100, layers: int = 9, heads: int = 8,
        hidden: int = 2048,
    ) -> None:  # fmt: skip
        super().__init__()
        self.query_feat = nn.Embedding(queries, channels)
        self.query_embed = nn.Embedding(queries, channels)
        self.level_embed = nn.Embedding(len(inputs), channels)
        self.input_proj = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in inputs)
        self.transformer_self_attention_layers = nn.ModuleList(SelfAttention(channels, heads) for _ in range(layers))
        self.transformer_cross_attention_layers = nn.ModuleList(CrossAttention(channels, heads) for _ in range(layers))
        self.transformer_ffn_layers = nn.ModuleList(FeedForward(channels, hidden) for _ in range(layers))
        self.decoder_norm = nn.LayerNorm(channels)
        self.color_embed = Mlp(channels, 3)

    def forward(self, features: Sequence[Tensor], pixels_BCHW: Tensor) -> Tensor:
        """Returns `(B, queries, H, W)`."""
        memories = [self._memory(level, feature) for level, feature in enumerate(features)]
        positions = [sine_positions(feature.shape[2:], pixels_BCHW.shape[1], feature) for feature in features]
        x = self.query_feat.weight.expand(pixels_BCHW.shape[0], -1, -1)
        place = self.query_embed.weight
        layers = zip(
            self.transformer_cross_attention_layers,
            self.transformer_self_attention_layers,
            self.transformer_ffn_layers,
            strict=True,
        )
        for index, (cross, own, feed_forward) in enumerate(layers):
            level = index % len(features)
            x = cross(x, place, memories[level], positions[level])
            x = feed_forward(own(x, place))
        return torch.einsum("bqc,bchw->bqhw", self.color_embed(self.decoder_norm(x)), pixels_BCHW)

    def _memory(self, level: int, feature_BChw: Tensor) -> Tensor:
        flat: Tensor = self.input_proj[level](feature_BChw).flatten(2).transpose(1, 2)
        return flat + self.level_embed.weight[level]


class CrossAttention(nn.Module):
    """Queries attend to the image; post-norm."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x_BQC: Tensor, place_QC: Tensor, memory_BNC: Tensor, position_NC: Tensor) -> Tensor:
        seen, _ = self.multihead_attn(x_BQC + place_QC, memory_BNC + position_NC, memory_BNC, need_weights=False)
        out: Tensor = self.norm(x_BQC + seen)
        return out


class SelfAttention(nn.Module):
    """Queries attend to each other; post-norm."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x_BQC: Tensor, place_QC: Tensor) -> Tensor:
        placed = x_BQC + place_QC
        seen, _ = self.self_attn(placed, placed, x_BQC, need_weights=False)
        out: Tensor = self.norm(x_BQC + seen)
        return out


class FeedForward(nn.Module):
    """Two linear layers; post-norm."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x_BQC: Tensor) -> Tensor:
        out: Tensor = self.norm(x_BQC + self.linear2(F.relu(self.linear1(x_BQC))))
        return out


class Mlp(nn.Module):
    """Linear layers of one width with ReLU between them."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(channels, channels) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        out: Tensor = self.layers[-1](x)
        return out


def sine_positions(sides: Sequence[int], channels: int, like: Tensor) -> Tensor:
    """Sinusoidal 2-D position encoding, `(h * w, channels)`: the first half for y, the second for x.

    As in DETR (Carion et al. 2020, https://arxiv.org/abs/2005.12872), with coordinates normalized to 2 pi.
    """
    step = torch.arange(channels // 2, device=like.device) // 2 * 2
    wavelength = _TEMPERATURE ** (step / (channels // 2))
    y, x = (_waves(side, wavelength) for side in sides)
    both = torch.cat((y[:, None].expand(-1, x.shape[0], -1), x[None].expand(y.shape[0], -1, -1)), dim=2)
    return both.flatten(0, 1).to(like.dtype)


def _waves(side: int, wavelength: Tensor) -> Tensor:
    place = torch.arange(1, side + 1, device=wavelength.device) / (side + 1e-6) * 2 * math.pi
    angle = place[:, None] / wavelength
    return torch.stack((angle[:, ::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1)
