"""The study's head of color queries for `unet`: a few learned colors look for their places in the image.

After Kang et al., "DDColor: Towards Photo-Realistic Image Colorization via Dual Decoders" (2023),
https://arxiv.org/abs/2212.11613, section 3.2, with one block for each scale where theirs goes round three times.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from colorize.models.base import AB_SCALE
from colorize.models.unet_trunk import UnetTrunk

BLOCKS = 3  # at 1/32, 1/16 and 1/8 of the size
HEAD_CHANNELS = 32


class UnetQueries(UnetTrunk):
    """L -> ab. An untrained one leaves images grey.

    Args:
        queries: how many colors there are.
        trunk: see `UnetTrunk`.
    """

    def __init__(self, queries: int = 32, **trunk: Any) -> None:
        super().__init__(**trunk)
        channels, *_ = self.scales
        self.queries_KC = nn.Parameter(torch.randn(queries, channels))
        self.memories = nn.ModuleList(nn.Linear(scale, channels) for scale in self.scales[:BLOCKS])
        self.blocks = nn.ModuleList(query_block(channels) for _ in range(BLOCKS))
        self.to_places = nn.Linear(channels, self.scales[-1])
        self.head = nn.Conv2d(queries, 2, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, L_B1HW: Tensor) -> Tensor:
        features = self.features(L_B1HW)
        places_BChw = features[-1]
        colors_BKC = self.to_places(self._ask(features)).to(places_BChw.dtype)
        alike_BKhw = torch.einsum("bkc,bchw->bkhw", colors_BKC, places_BChw) / math.sqrt(places_BChw.shape[1])
        ab: Tensor = self.head(alike_BKhw)
        return ab.float().tanh() * AB_SCALE

    def _ask(self, features: list[Tensor]) -> Tensor:
        """The queries after a look at each scale of the image: `(B, K, C)`."""
        asked: Tensor = self.queries_KC.expand(len(features[0]), -1, -1)
        for memory, block, feature in zip(self.memories, self.blocks, features[:BLOCKS], strict=True):
            asked = block(asked, memory(feature.flatten(2).transpose(1, 2)))
        return asked


def query_block(channels: int) -> nn.TransformerDecoderLayer:
    """The queries compare notes, look at the image, and think: pre-norm, without dropout."""
    return nn.TransformerDecoderLayer(
        channels, max(1, channels // HEAD_CHANNELS), 2 * channels, 0.0, "gelu", batch_first=True, norm_first=True
    )
