"""Pixel-wise image metrics: PSNR, SSIM, CIEDE2000. Pure functions of batches on any device."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

AB_PEAK = 220.0  # ab is in about [-110, 110]
_SILENCE = 1e-10  # mean square error of equal images: 100 dB for a peak of 1

_WINDOW, _SIGMA = 11, 1.5  # Wang et al., section III-C
_K1, _K2 = 0.01, 0.03

_POW25_7 = 25.0**7


def psnr(predicted: Tensor, true: Tensor, peak: float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, at most 100.

    Args:
        predicted: `(B, ...)`, such as sRGB in [0, 1] with `peak=1`, or ab in Lab units with `peak=AB_PEAK`.
        true: of the same shape.
        peak: the range of the values.

    Returns:
        `(B,)`. The PSNR of a set is the mean of these, not the PSNR of the mean error.
    """
    mean_square = (predicted - true).square().flatten(1).mean(dim=1) / peak**2
    return -10 * torch.log10(mean_square.clamp(min=_SILENCE))


def ssim(predicted_BCHW: Tensor, true_BCHW: Tensor) -> Tensor:
    """Structural similarity of each image, `(B,)`, at most 1: mean over channels and complete windows.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural similarity"
    (2004), equation 13: Gaussian windows of 11 x 11 with deviation 1.5, K1 = 0.01, K2 = 0.03, for values in [0, 1].

    Raises:
        ValueError: a side is shorter than the window.
    """
    if min(predicted_BCHW.shape[2:]) < _WINDOW:
        raise ValueError(
            f"images of {tuple(predicted_BCHW.shape[2:])} pixels are smaller than SSIM's window, {_WINDOW}"
        )
    channels = predicted_BCHW.shape[1]
    stacked = torch.cat((predicted_BCHW, true_BCHW, predicted_BCHW**2, true_BCHW**2, predicted_BCHW * true_BCHW), dim=1)
    mean_x, mean_y, xx, yy, xy = torch.split(_blurred(stacked), channels, dim=1)
    square_x, square_y, product = mean_x**2, mean_y**2, mean_x * mean_y
    variance = (xx - square_x) + (yy - square_y)
    structure = (2 * (xy - product) + _K2**2) / (variance + _K2**2)
    luminance = (2 * product + _K1**2) / (square_x + square_y + _K1**2)
    similarity: Tensor = luminance * structure
    return similarity.flatten(1).mean(dim=1)


def ciede2000(predicted_B3HW: Tensor, true_B3HW: Tensor) -> Tensor:
    """CIEDE2000 difference of each pixel of Lab images, `(B, H, W)`; about 1 is just noticeable.

    Sharma, Wu and Dalal, "The CIEDE2000 Color-Difference Formula: Implementation Notes, Supplementary Test Data,
    and Mathematical Observations" (2005), equations 2 to 22, with all weights 1.
    """
    L1, a1, b1 = predicted_B3HW.unbind(1)
    L2, a2, b2 = true_B3HW.unbind(1)
    C1, h1, C2, h2 = _chroma_and_hue(a1, b1, a2, b2)
    hue_step, mean_hue = _hues(C1, h1, C2, h2)
    mean_L, mean_C = (L1 + L2) / 2, (C1 + C2) / 2
    SL = 1 + 0.015 * (mean_L - 50) ** 2 / torch.sqrt(20 + (mean_L - 50) ** 2)
    SC = 1 + 0.045 * mean_C
    SH = 1 + 0.015 * mean_C * _hue_weight(mean_hue)
    dL, dC = (L2 - L1) / SL, (C2 - C1) / SC
    dH = 2 * torch.sqrt(C1 * C2) * torch.sin(hue_step / 2) / SH
    rotation = math.pi / 3 * torch.exp(-(((torch.rad2deg(mean_hue) - 275) / 25) ** 2))
    mean_C7 = mean_C**7
    RT = -2 * torch.sqrt(mean_C7 / (mean_C7 + _POW25_7)) * torch.sin(rotation)
    return torch.sqrt((dL**2 + dC**2 + dH**2 + RT * dC * dH).clamp(min=0))


def _blurred(x_BCHW: Tensor) -> Tensor:
    """Gaussian blur with SSIM's window, without padding."""
    offsets = torch.arange(_WINDOW, device=x_BCHW.device, dtype=x_BCHW.dtype) - _WINDOW // 2
    kernel = (-0.5 * (offsets / _SIGMA) ** 2).exp()
    kernel = (kernel / kernel.sum()).expand(x_BCHW.shape[1], 1, 1, -1)
    rows = F.conv2d(x_BCHW, kernel, groups=x_BCHW.shape[1])
    return F.conv2d(rows, kernel.transpose(2, 3), groups=x_BCHW.shape[1])


def _chroma_and_hue(a1: Tensor, b1: Tensor, a2: Tensor, b2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """C' and h' (radians, 0 to 2 pi; 0 for greys) of both colors."""
    mean_C7 = ((torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2) ** 7
    stretch = 1.5 - 0.5 * torch.sqrt(mean_C7 / (mean_C7 + _POW25_7))
    a1, a2 = a1 * stretch, a2 * stretch
    h1, h2 = (torch.atan2(b, a) % (2 * math.pi) for a, b in ((a1, b1), (a2, b2)))
    return torch.hypot(a1, b1), h1, torch.hypot(a2, b2), h2


def _hues(C1: Tensor, h1: Tensor, C2: Tensor, h2: Tensor) -> tuple[Tensor, Tensor]:
    """Hue difference and mean hue, in radians."""
    step, total = h2 - h1, h1 + h2
    around = step.abs() > math.pi
    mean = torch.where(around, torch.where(total < 2 * math.pi, total + 2 * math.pi, total - 2 * math.pi), total) / 2
    step = torch.where(around, step - 2 * math.pi * step.sign(), step)
    grey = C1 * C2 == 0
    return torch.where(grey, 0.0, step), torch.where(grey, total, mean)


def _hue_weight(hue: Tensor) -> Tensor:
    """T of equation 15."""
    degree = math.pi / 180
    return (
        1
        - 0.17 * torch.cos(hue - 30 * degree)
        + 0.24 * torch.cos(2 * hue)
        + 0.32 * torch.cos(3 * hue + 6 * degree)
        - 0.20 * torch.cos(4 * hue - 63 * degree)
    )
