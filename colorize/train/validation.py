"""How well a network colors images that it never saw, and a sheet to look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from colorize.errors import UsageError
from colorize.imaging.color import grey_to_lightness, lab_to_rgb, luma, rgb_to_lab, rgb_to_ycbcr, ycbcr_to_rgb
from colorize.metrics import AB_PEAK, colorfulness, psnr
from colorize.models import ColorModel
from colorize.train.accuracy import recorded_names
from colorize.train.augment import canvas_shape

COLOR_FIGURES = ("psnr", "psnr_grey", "psnr_ab", "colorfulness")
_COLORLESS = 0.1  # colorfulness below which images are grey


def figure_names(model: ColorModel) -> tuple[str, ...]:
    """What an epoch's measurement calls its figures, for a network of this kind."""
    return (*COLOR_FIGURES, *recorded_names(model))


@torch.inference_mode()
def validate(model: ColorModel, batches: Iterable[Tensor], size: int) -> dict[str, float]:
    """Means over images, colored at about size x size as in use and measured at their own size.

    Args:
        model: in eval mode.
        batches: sRGB in [0, 1] `(B, 3, H, W)` on the model's device.
        size: the network sees about size x size pixels.

    Returns:
        `psnr` (dB, of RGB), `psnr_grey` (what the uncolored image gets), `psnr_ab` (dB, peak 220),
        `colorfulness` (predicted over true, 1 is right); nothing where there are no images.

    Raises:
        UsageError: every image is grey.
    """
    columns = [torch.stack(_measure(rgb, colorize(model, rgb, size)), dim=1) for rgb in batches]
    if not columns:
        return {}
    *decibels, ours, true = torch.cat(columns).mean(dim=0).tolist()
    if true < _COLORLESS:
        raise UsageError("the held-out images are all grey: --data must hold color images")
    return dict(zip(COLOR_FIGURES, (*decibels, ours / true), strict=True))


def colorize(model: ColorModel, rgb_B3HW: Tensor, size: int) -> Tensor:
    """Color the luma of color images: sRGB in [0, 1] -> sRGB of the same shape, luma as it was."""
    grey = luma(rgb_B3HW)
    canvas = canvas_shape(grey.shape[2:], size, model.stride)
    resized = F.interpolate(grey, canvas, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
    ab = model(grey_to_lightness(resized))
    ab = F.interpolate(ab, grey.shape[2:], mode="bilinear", align_corners=False)
    return painted(grey, ab)


def painted(grey_B1HW: Tensor, ab_B2HW: Tensor) -> Tensor:
    """Luma in [0, 1] and a color for each of its pixels -> sRGB `(B, 3, H, W)`, luma as it was."""
    chroma = rgb_to_ycbcr(lab_to_rgb(torch.cat((grey_to_lightness(grey_B1HW), ab_B2HW), dim=1)))[:, 1:]
    return ycbcr_to_rgb(torch.cat((grey_B1HW, chroma), dim=1)).clamp(0, 1)


def quality_of(measured: Mapping[str, float], name: str) -> float:
    """The figure by which epochs are compared, larger being better."""
    return -measured[name] if name == "mse" else measured[name]


@torch.inference_mode()
def sample_sheet(model: ColorModel, batches: Iterable[Tensor], size: int) -> Image.Image:
    """One row an image: grey, predicted, true."""
    rows = []
    for rgb in batches:
        shown = torch.cat((luma(rgb).expand_as(rgb), colorize(model, rgb, size), rgb), dim=3)
        rows += list(F.interpolate(shown, (128, 3 * 144), mode="bilinear", antialias=True))
    sheet = (torch.cat(rows, dim=1) * 255).round().byte()
    return Image.fromarray(np.ascontiguousarray(sheet.permute(1, 2, 0).cpu().numpy()))


def _measure(true: Tensor, ours: Tensor) -> tuple[Tensor, ...]:
    grey = luma(true).expand_as(true)
    return (
        psnr(ours, true),
        psnr(grey, true),
        psnr(rgb_to_lab(ours)[:, 1:], rgb_to_lab(true)[:, 1:], AB_PEAK),
        colorfulness(ours),
        colorfulness(true),
    )
