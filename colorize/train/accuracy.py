"""The metrics that the authors of the classic approaches report."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from colorize.imaging.color import grey_to_lightness, luma, rgb_to_lab
from colorize.models import BinModel, ColorModel, RgbModel
from colorize.models.base import AB_SCALE
from colorize.models.palette_cnn import PaletteCnn
from colorize.train.augment import canvas_shape
from colorize.train.losses import shrink


def recorded_names(model: ColorModel) -> tuple[str, ...]:
    """The names that `recorded_metrics` returns for this network."""
    if isinstance(model, BinModel):
        return ()
    names = ("mse", "channel_accuracy")
    if not isinstance(model, RgbModel):
        return names
    return (*names, "value_accuracy", *(("pixel_accuracy",) if isinstance(model, PaletteCnn) else ()))


@torch.inference_mode()
def recorded_metrics(model: ColorModel, batches: Iterable[Tensor], size: int) -> dict[str, float]:
    """Means over images at the network's input size; none for networks that predict bins.

    Args:
        model: in eval mode.
        batches: sRGB in [0, 1] `(B, 3, H, W)` on the model's device.
        size: input of about size x size pixels.

    Returns:
        `mse` of sRGB in [0, 1], or of ab / 128; and one or more of `channel_accuracy`, `value_accuracy` and
        `pixel_accuracy`.
    """
    if isinstance(model, BinModel):
        return {}
    sums: dict[str, float] = {}
    images = 0
    for rgb in batches:
        for name, value in _measure(model, rgb, size).items():
            sums[name] = sums.get(name, 0.0) + float(value) * len(rgb)
        images += len(rgb)
    return {name: value / images for name, value in sums.items()}


def channel_accuracy(predicted_BCHW: Tensor, true_BCHW: Tensor) -> Tensor:
    """Fraction of pixels whose largest channel is predicted: Keras' accuracy for images.

    Chance is 1/3 for RGB and 1/2 for ab, so reported values of a few percent are not this metric.
    """
    return (predicted_BCHW.argmax(dim=1) == true_BCHW.argmax(dim=1)).float().mean()


def value_accuracy(predicted_BCHW: Tensor, true_BCHW: Tensor) -> Tensor:
    """Fraction of images whose position of the largest value is predicted: Keras' accuracy for flat outputs."""
    return (predicted_BCHW.flatten(1).argmax(dim=1) == true_BCHW.flatten(1).argmax(dim=1)).float().mean()


def pixel_accuracy(model: PaletteCnn, L_B1HW: Tensor, rgb_B3HW: Tensor) -> Tensor:
    """Fraction of pixels whose nearest palette color is predicted."""
    return (model.logits(L_B1HW).argmax(dim=1) == model.classify(rgb_B3HW)).float().mean()


def _measure(model: ColorModel, rgb_B3HW: Tensor, size: int) -> dict[str, Tensor]:
    shape = canvas_shape(rgb_B3HW.shape[2:], size, model.stride)
    L = grey_to_lightness(_resize(luma(rgb_B3HW), shape))
    if not isinstance(model, RgbModel):
        predicted, true = model(L), rgb_to_lab(_resize(rgb_B3HW, shape))[:, 1:]
        true = shrink(true, predicted.shape[2:])
        mse = F.mse_loss(predicted / AB_SCALE, true / AB_SCALE)
        return {"mse": mse, "channel_accuracy": channel_accuracy(predicted, true)}
    predicted = model.rgb(L).float()
    true = _resize(rgb_B3HW, predicted.shape[2:])
    found = {"mse": F.mse_loss(predicted, true), "channel_accuracy": channel_accuracy(predicted, true)}
    found["value_accuracy"] = value_accuracy(predicted, true)
    if isinstance(model, PaletteCnn):
        found["pixel_accuracy"] = pixel_accuracy(model, L, true)
    return found


def _resize(x: Tensor, shape: tuple[int, ...] | torch.Size) -> Tensor:
    if x.shape[2:] == torch.Size(shape):
        return x
    return F.interpolate(x, tuple(shape), mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
