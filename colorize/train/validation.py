"""Validation metrics, and sample sheets."""

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

COLOR_METRICS = ("psnr", "psnr_grey", "psnr_ab", "colorfulness")
COLORLESS = 0.1  # colorfulness below which images are grey


def metric_names(model: ColorModel) -> tuple[str, ...]:
    """The names of all validation metrics of this network."""
    return (*COLOR_METRICS, *recorded_names(model))


@torch.inference_mode()
def validate(model: ColorModel, batches: Iterable[Tensor], size: int) -> dict[str, float]:
    """Means over images, colored at about size x size and measured at their own size.

    Args:
        model: in eval mode.
        batches: sRGB in [0, 1] `(B, 3, H, W)` on the model's device.
        size: input of about size x size pixels.

    Returns:
        `psnr` (dB, of RGB), `psnr_grey` (of the grey image), `psnr_ab` (dB, peak 220), `colorfulness` (predicted
        over true); empty without images.

    Raises:
        UsageError: every image is grey.
    """
    columns = [torch.stack(_measure(rgb, colorize(model, rgb, size)), dim=1) for rgb in batches]
    if not columns:
        return {}
    *decibels, predicted, true = torch.cat(columns).mean(dim=0).tolist()
    require_colorful(true, "held-out")
    return dict(zip(COLOR_METRICS, (*decibels, predicted / true), strict=True))


def require_colorful(strength: float, which: str) -> None:
    """Raises UsageError for images of this mean colorfulness if they are grey."""
    if strength < COLORLESS:
        raise UsageError(f"the {which} images are all grey: --data must hold color images")


def colorize(model: ColorModel, rgb_B3HW: Tensor, size: int) -> Tensor:
    """Colors the luma of color images: sRGB in [0, 1] -> sRGB of the same shape and luma."""
    grey = luma(rgb_B3HW)
    canvas = canvas_shape(grey.shape[2:], size, model.stride)
    resized = F.interpolate(grey, canvas, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
    ab = model(grey_to_lightness(resized))
    ab = F.interpolate(ab, grey.shape[2:], mode="bilinear", align_corners=False)
    return composed_rgb(grey, ab)


def composed_rgb(grey_B1HW: Tensor, ab_B2HW: Tensor) -> Tensor:
    """Luma in [0, 1] and ab -> sRGB `(B, 3, H, W)` with the same luma."""
    chroma = rgb_to_ycbcr(lab_to_rgb(torch.cat((grey_to_lightness(grey_B1HW), ab_B2HW), dim=1)))[:, 1:]
    return ycbcr_to_rgb(torch.cat((grey_B1HW, chroma), dim=1)).clamp(0, 1)


def quality_of(measured: Mapping[str, float], name: str) -> float:
    """The metric by which epochs are compared; larger is better."""
    return -measured[name] if name == "mse" else measured[name]


@torch.inference_mode()
def sample_sheet(model: ColorModel, batches: Iterable[Tensor], size: int) -> Image.Image:
    """One row per image: grey, predicted, true."""
    rows = []
    for rgb in batches:
        shown = torch.cat((luma(rgb).expand_as(rgb), colorize(model, rgb, size), rgb), dim=3)
        rows += list(F.interpolate(shown, (128, 3 * 144), mode="bilinear", antialias=True))
    sheet = (torch.cat(rows, dim=1) * 255).round().byte()
    return Image.fromarray(np.ascontiguousarray(sheet.permute(1, 2, 0).cpu().numpy()))


def _measure(true: Tensor, predicted: Tensor) -> tuple[Tensor, ...]:
    grey = luma(true).expand_as(true)
    return (
        psnr(predicted, true),
        psnr(grey, true),
        psnr(rgb_to_lab(predicted)[:, 1:], rgb_to_lab(true)[:, 1:], AB_PEAK),
        colorfulness(predicted),
        colorfulness(true),
    )
