"""The metrics: names, titles, units and which direction is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: `name` in files, `title` and `explanation` for display."""

    name: str
    title: str
    unit: str
    better: Better
    digits: int
    explanation: str


PER_IMAGE = (
    Metric("psnr", "PSNR", "dB", "higher", 2, "of RGB, mean over images, on the center crop"),
    Metric("psnr_full", "PSNR, whole", "dB", "higher", 2, "of RGB, whole images, as the bulk job writes them"),
    Metric("psnr_ab", "PSNR of ab", "dB", "higher", 2, "of Lab's two color channels, peak 220"),
    Metric("ssim", "SSIM", "", "higher", 4, "structural similarity of RGB, 1 for equal images"),
    Metric("ciede2000", "CIEDE2000", "", "lower", 2, "mean color difference; about 1 is just noticeable"),
    Metric("auc", "AuC", "%", "higher", 2, "area under the curve of ab errors up to 150"),
    Metric("perceptual_lite0", "Lite0 distance", "", "lower", 4, "distance of EfficientNet-Lite0's features"),
    Metric("lpips", "LPIPS", "", "lower", 4, "perceptual distance as published, on AlexNet, by supplied weights"),
    Metric("top1_lite0", "Same class", "%", "higher", 1, "EfficientNet-Lite0 sees what it sees in the true image"),
    Metric("colorfulness_error", "Colorfulness error", "", "lower", 2, "mean distance from the true image's"),
    Metric("colorfulness_absolute_error", "Colorfulness error, abs.", "", "lower", 2, "the same, as papers compute it"),
)  # fmt: skip
PER_SET = (
    Metric("auc_rebalanced", "AuC, rebalanced", "%", "higher", 2, "the area with rare colors weighing more"),
    Metric("frechet_lite0", "Lite0 Frechet", "", "lower", 1, "Frechet distance of EfficientNet-Lite0's features"),
    Metric("fid", "FID", "", "lower", 2, "Frechet distance of Inception's features as published, by supplied weights"),
    Metric("colorfulness", "Colorfulness", "", "higher", 2, "after Hasler and Suesstrunk, as published"),
    Metric("colorfulness_gap", "Colorfulness gap", "", "lower", 2, "distance of the means, ours and true"),
    Metric("colorfulness_absolute", "Colorfulness, abs.", "", "higher", 2, "of absolute opponents, as papers do"),
    Metric("colorfulness_absolute_gap", "Colorfulness gap, abs.", "", "lower", 2, "the same, as papers do"),
)  # fmt: skip
METRICS = {metric.name: metric for metric in (*PER_IMAGE, *PER_SET)}
