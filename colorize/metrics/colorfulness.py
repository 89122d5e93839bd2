"""How colorful an image is, regardless of the truth."""

from __future__ import annotations

import torch
from torch import Tensor


def colorfulness(rgb_B3HW: Tensor, epsilon: float = 0.0) -> Tensor:
    """Colorfulness of sRGB images in [0, 1], `(B,)`: 0 is grey, 33 "moderately", 59 "quite" colorful.

    Hasler and Suesstrunk, "Measuring colourfulness in natural images" (2003), M3. A small
    `epsilon` keeps the gradients of its square roots finite in a loss.
    """
    return _opponent_strength(_opponents(rgb_B3HW), epsilon)


def absolute_colorfulness(rgb_B3HW: Tensor) -> Tensor:
    """Colorfulness as the code of colorization papers computes it, `(B,)`. Not comparable with `colorfulness`.

    The same formula on absolute opponent values, after a widely copied program (pyimagesearch.com, "Computing image
    colorfulness with OpenCV and Python", 2017).
    """
    return _opponent_strength(_opponents(rgb_B3HW).abs(), 0.0)


def _opponents(rgb_B3HW: Tensor) -> Tensor:
    red, green, blue = (rgb_B3HW * 255).flatten(2).unbind(1)
    return torch.stack((red - green, (red + green) / 2 - blue), dim=1)


def _opponent_strength(opponents_B2N: Tensor, epsilon: float) -> Tensor:
    deviation = (opponents_B2N.var(dim=2, correction=0).sum(dim=1) + epsilon).sqrt()
    magnitude = (opponents_B2N.mean(dim=2).square().sum(dim=1) + epsilon).sqrt()
    return deviation + 0.3 * magnitude
