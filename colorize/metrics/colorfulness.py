"""How colorful an image is, whether or not the colors are right."""

from __future__ import annotations

import torch
from torch import Tensor


def colorfulness(rgb_B3HW: Tensor, epsilon: float = 0.0) -> Tensor:
    """Colorfulness of sRGB images in [0, 1], `(B,)`: 0 for grey, 33 "moderately", 59 "quite" colorful.

    Hasler and Suesstrunk, "Measuring colourfulness in natural images" (2003), the measure M3: deviation plus 0.3
    times the magnitude of the mean of the opponents R - G and (R + G) / 2 - B, of values in 0..255. A small `epsilon`
    under the roots keeps their gradients finite where it is minimized.
    """
    return _opponent_strength(_opponents(rgb_B3HW), epsilon)


def absolute_colorfulness(rgb_B3HW: Tensor) -> Tensor:
    """Colorfulness as the code of colorization papers computes it, `(B,)`.

    The same formula of the opponents' absolute values, which came into use with a widely copied program
    (pyimagesearch.com, "Computing image colorfulness with OpenCV and Python", 2017). For images with colors on both
    sides of grey it is another figure than `colorfulness`: the two do not compare.
    """
    return _opponent_strength(_opponents(rgb_B3HW).abs(), 0.0)


def _opponents(rgb_B3HW: Tensor) -> Tensor:
    red, green, blue = (rgb_B3HW * 255).flatten(2).unbind(1)
    return torch.stack((red - green, (red + green) / 2 - blue), dim=1)


def _opponent_strength(opponents_B2N: Tensor, epsilon: float) -> Tensor:
    deviation = (opponents_B2N.var(dim=2, correction=0).sum(dim=1) + epsilon).sqrt()
    magnitude = (opponents_B2N.mean(dim=2).square().sum(dim=1) + epsilon).sqrt()
    return deviation + 0.3 * magnitude
