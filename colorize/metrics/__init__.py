"""Metrics of colorization quality, each with the source of its formula."""

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
