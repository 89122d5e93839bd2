"""DDColor: the published networks with learned color queries, in two sizes.

Kang, Yang, Ouyang, Ren, Li and Xie, "DDColor: Towards Photo-Realistic Image Colorization via Dual Decoders" (2023),
https://arxiv.org/abs/2212.11613. Spectral norms are folded into the weights: see `published`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from colorize.imaging.color import lightness_to_grey
from colorize.models.color_queries import ColorQueries
from colorize.models.convnext import ConvNext
from colorize.models.published import PublishedModel, padded_to_stride

# ImageNet statistics, sRGB in [0, 1]. The published files contain them, too.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class Ddcolor(PublishedModel):
    """L or grey RGB of any size -> ab of the same size.

    Args:
        depths: blocks of each stage of the encoder.
        widths: channels of each stage of the encoder.
        features: channels of the pixel decoder at 1/16 and 1/8; half as many at 1/4 and at full size.
        queries: number of learned colors.
        layers: attention layers.
        hidden: channels in the feed-forward layers.
    """

    stride = 32

    def __init__(
        self, depths: Sequence[int], widths: Sequence[int], features: int = 512, queries: int = 100, layers: int = 9,
        hidden: int = 2048,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder = nn.ModuleDict({"arch": ConvNext(depths, widths)})
        self.decoder = DualDecoder(widths, features, queries, layers, hidden)
        self.refine_net = nn.Sequential(nn.Sequential(nn.Conv2d(queries + 3, 2, 1)))
        self.last_width = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """ab `(B, 2, H, W)`, Lab units.

        Args:
            x: L* in [0, 100] `(B, 1, H, W)`, or the same as grey sRGB in [0, 1] `(B, 3, H, W)`.
        """
        rgb = x if x.shape[1] == len(_MEAN) else lightness_to_grey(x).expand(-1, len(_MEAN), -1, -1)
        mean, std = (rgb.new_tensor(values).reshape(1, -1, 1, 1) for values in (_MEAN, _STD))
        return padded_to_stride(self._color, self.stride, (rgb - mean) / std)

    def _color(self, normalized_B3HW: Tensor) -> Tensor:
        maps = self.decoder(self.encoder["arch"](normalized_B3HW))
        ab: Tensor = self.refine_net(torch.cat((maps, normalized_B3HW), dim=1))
        return ab.float()

    def published_shapes(self) -> dict[str, torch.Size]:
        """The files also contain the input scale and the norm of the encoder's classifier, both unused here."""
        norm = (self.last_width,)
        unused = {"mean": (1, 3, 1, 1), "std": (1, 3, 1, 1), "encoder.arch.norm.weight": norm,
                  "encoder.arch.norm.bias": norm}  # fmt: skip
        return super().published_shapes() | {key: torch.Size(shape) for key, shape in unused.items()}


class DdcolorTiny(Ddcolor):
    """ConvNeXt-T encoder, 55 million parameters. Arguments as in `Ddcolor`."""

    def __init__(
        self, depths: Sequence[int] = (3, 3, 9, 3), widths: Sequence[int] = (96, 192, 384, 768), features: int = 512,
        queries: int = 100, layers: int = 9, hidden: int = 2048,
    ) -> None:  # fmt: skip
        super().__init__(depths, widths, features, queries, layers, hidden)


class DdcolorLarge(Ddcolor):
    """ConvNeXt-L encoder, 228 million parameters. Arguments as in `Ddcolor`."""

    def __init__(
        self, depths: Sequence[int] = (3, 3, 27, 3), widths: Sequence[int] = (192, 384, 768, 1536),
        features: int = 512, queries: int = 100, layers: int = 9, hidden: int = 2048,
    ) -> None:  # fmt: skip
        super().__init__(depths, widths, features, queries, layers, hidden)


class DualDecoder(nn.Module):
    """A pixel decoder that upsamples the encoder's features, and a color decoder that attends to them."""

    def __init__(self, widths: Sequence[int], features: int, queries: int, layers: int, hidden: int) -> None:
        super().__init__()
        half = features // 2
        *skips, deepest = widths
        inputs, outputs = (deepest, features, features), (features, features, half)
        self.layers = nn.ModuleList(Up(i, skip, o) for i, skip, o in zip(inputs, reversed(skips), outputs, strict=True))
        self.last_shuf = Shuffle(half, half, 4, normalized=False)
        self.color_decoder = ColorQueries(outputs, half, queries, layers, hidden=hidden)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        *skips, x = features
        scales = []
        for layer, skip in zip(self.layers, reversed(skips), strict=True):
            x = layer(x, skip)
            scales.append(x)
        maps: Tensor = self.color_decoder(scales, self.last_shuf(x))
        return maps


class Up(nn.Module):
    """Upsample by 2, concatenate the skip connection, convolve."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.shuf = Shuffle(inputs, outputs, 2)
        self.bn = nn.BatchNorm2d(skip)
        self.conv = nn.Sequential(
            nn.Conv2d(outputs + skip, outputs, 3, padding=1, bias=False), nn.ReLU(), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        both = torch.cat((self.shuf(x), self.bn(skip)), dim=1)
        out: Tensor = self.conv(F.relu(both))
        return out


class Shuffle(nn.Module):
    """Pixel shuffle by `times`, then a 2 x 2 mean against checkerboard artifacts."""

    def __init__(self, inputs: int, outputs: int, times: int, normalized: bool = True) -> None:
        super().__init__()
        many = outputs * times**2
        norm = [nn.BatchNorm2d(many)] if normalized else []
        self.conv = nn.Sequential(nn.Conv2d(inputs, many, 1, bias=not normalized), *norm)
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        pixels = F.pixel_shuffle(F.relu(self.conv(x)), self.times)
        return F.avg_pool2d(F.pad(pixels, (1, 0, 1, 0), mode="replicate"), 2, stride=1)
