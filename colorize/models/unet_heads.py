"""`unet` by its head: the default one in `unet`, and two for comparison (docs/study.md)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from colorize.errors import UsageError
from colorize.models.base import AB_SCALE
from colorize.models.unet import Unet
from colorize.models.unet_trunk import UnetTrunk
from colorize.settings import nearest

BLOCKS = 3  # at 1/32, 1/16 and 1/8 of the size
HEAD_CHANNELS = 32


class UnetRegression(UnetTrunk):
    """L -> ab, for a regression loss. Untrained, it leaves images grey. Arguments as in `UnetTrunk`."""

    def __init__(self, **trunk: Any) -> None:
        super().__init__(**trunk)
        self.head = _grey_head(self.scales[-1])

    def forward(self, L_B1HW: Tensor) -> Tensor:
        ab: Tensor = self.head(self.features(L_B1HW)[-1])
        return ab.float().tanh() * AB_SCALE


class UnetQueries(UnetTrunk):
    """L -> ab, by learned color queries. Untrained, it leaves images grey.

    After Kang et al., "DDColor: Towards Photo-Realistic Image Colorization via Dual Decoders" (2023),
    https://arxiv.org/abs/2212.11613, section 3.2, with one block a scale instead of three.

    Args:
        queries: number of queries.
        trunk: see `UnetTrunk`.
    """

    def __init__(self, queries: int = 32, **trunk: Any) -> None:
        super().__init__(**trunk)
        channels, *_ = self.scales
        self.queries_KC = nn.Parameter(torch.randn(queries, channels))
        self.memories = nn.ModuleList(nn.Linear(scale, channels) for scale in self.scales[:BLOCKS])
        heads = max(1, channels // HEAD_CHANNELS)
        self.blocks = nn.ModuleList(
            nn.TransformerDecoderLayer(
                channels, heads, 2 * channels, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(BLOCKS)
        )
        self.to_places = nn.Linear(channels, self.scales[-1])
        self.head = _grey_head(queries)

    def forward(self, L_B1HW: Tensor) -> Tensor:
        features = self.features(L_B1HW)
        pixels_BChw = features[-1]
        colors_BKC = self.to_places(self._attend(features)).to(pixels_BChw.dtype)
        similarity_BKhw = torch.einsum("bkc,bchw->bkhw", colors_BKC, pixels_BChw) / math.sqrt(pixels_BChw.shape[1])
        ab: Tensor = self.head(similarity_BKhw)
        return ab.float().tanh() * AB_SCALE

    def _attend(self, features: list[Tensor]) -> Tensor:
        """The queries after attending to each scale: `(B, K, C)`."""
        queries: Tensor = self.queries_KC.expand(len(features[0]), -1, -1)
        for memory, block, feature in zip(self.memories, self.blocks, features[:BLOCKS], strict=True):
            queries = block(queries, memory(feature.flatten(2).transpose(1, 2)))
        return queries


_HEADS: dict[str, type[UnetTrunk]] = {"bins": Unet, "regression": UnetRegression, "queries": UnetQueries}


def create_unet(head: str = "bins", **args: Any) -> UnetTrunk:
    """`unet` with one of its heads.

    Args:
        head: "bins" (the default model's), "regression" or "queries".
        args: of that head's class.

    Raises:
        UsageError: unknown head.
    """
    if head not in _HEADS:
        raise UsageError(f"unet: head={head!r}{nearest(head, sorted(_HEADS))}")
    return _HEADS[head](**args)


def _grey_head(channels: int) -> nn.Conv2d:
    head = nn.Conv2d(channels, 2, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)  # type: ignore[arg-type]
    return head
