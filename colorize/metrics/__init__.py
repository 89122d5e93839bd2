"""How far colors are from the truth: the one place for the project's measures, each with its formula's source.

`fidelity`: PSNR, SSIM, CIEDE2000; `vividness`: colorfulness; `area`: the area under the curve of ab errors;
`perceptual` and `frechet`: distances of features, of two images and of two sets; `resampling`: confidence intervals.
"""

from __future__ import annotations

from colorize.metrics.area import auc_by_bin, pixel_scores, rarity_weights
from colorize.metrics.colorfulness import absolute_colorfulness, colorfulness
from colorize.metrics.fidelity import AB_PEAK, ciede2000, psnr, ssim
from colorize.metrics.frechet import frechet_distance
from colorize.metrics.perceptual import perceptual_distance
from colorize.metrics.resampling import Interval, bootstrap

__all__ = [
    "AB_PEAK",
    "Interval",
    "absolute_colorfulness",
    "auc_by_bin",
    "bootstrap",
    "ciede2000",
    "colorfulness",
    "frechet_distance",
    "perceptual_distance",
    "pixel_scores",
    "psnr",
    "rarity_weights",
    "ssim",
]
