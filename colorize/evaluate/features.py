"""EfficientNet-Lite0 as a feature extractor and classifier for metrics.

The metrics carry its name. They are not comparable with FID (Inception) or LPIPS (AlexNet or VGG).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from colorize.models.efficientnet_lite import (
    ConvNorm,
    EfficientNetLite,
    encoder_state,
    feature_channels,
    published_state,
)

POOLED = feature_channels()[-1]  # length of an image's feature vector
_CLASSES, _HEAD = 1000, 1280


@dataclass(frozen=True)
class Features:
    """Of a batch: feature maps at five scales, the mean of the last one `(B, 320)`, and classes `(B,)`."""

    levels: list[Tensor]
    pooled: Tensor
    classes: Tensor


class Lite0(nn.Module):
    """The published network with ImageNet weights, in eval mode."""

    def __init__(self) -> None:
        """Raises ModuleNotFoundError without the optional package that holds the weights."""
        super().__init__()
        published = published_state()
        self.encoder = EfficientNetLite(channels=3)
        self.encoder.load_state_dict(encoder_state(published), strict=True)
        self.head = ConvNorm(POOLED, _HEAD, 1)
        self.head.load_state_dict(_head_state(published), strict=True)
        self.classifier = nn.Linear(_HEAD, _CLASSES)
        self.classifier.load_state_dict({"weight": published["_fc.weight"], "bias": published["_fc.bias"]})
        self.eval()

    @torch.inference_mode()
    def forward(self, rgb_B3HW: Tensor) -> Features:
        """sRGB in [0, 1], sides multiples of 32."""
        levels = self.encoder(rgb_B3HW)
        logits = self.classifier(self.head(levels[-1]).mean(dim=(2, 3)))
        return Features(levels, levels[-1].mean(dim=(2, 3)), logits.argmax(dim=1))


def _head_state(published: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {"conv.weight": published["_conv_head.weight"]}
    return state | {key.replace("_bn1.", "norm."): v for key, v in published.items() if key.startswith("_bn1.")}
