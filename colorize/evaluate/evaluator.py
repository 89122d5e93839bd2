"""The score stage: metrics of a batch of ground-truth images, colored by one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from colorize.evaluate.candidates import Paint, color_scans
from colorize.evaluate.features import Features, Lite0
from colorize.evaluate.ground_truth import grey_png
from colorize.evaluate.supplied import Inception, Lpips, Supplied
from colorize.imaging.color import rgb_to_lab
from colorize.imaging.formats.upright import RGB
from colorize.metrics import (
    AB_PEAK,
    absolute_colorfulness,
    auc_by_bin,
    ciede2000,
    colorfulness,
    perceptual_distance,
    psnr,
    ssim,
)


@dataclass(frozen=True)
class GroundTruth:
    """A batch of ground-truth images, prepared once for all models."""

    rgb: Tensor  # (B, 3, S, S), sRGB in [0, 1]
    lab: Tensor
    features: Features | None
    inception: Tensor | None  # (B, 2048)
    scans: list[bytes]  # their luma as PNG

    def described(self) -> dict[str, list[Any]]:
        """Columns that describe the ground truth."""
        pixels, _ = auc_by_bin(self.lab[:, 1:], self.lab[:, 1:])
        return {
            "true_colorfulness": colorfulness(self.rgb).tolist(),
            "true_colorfulness_absolute": absolute_colorfulness(self.rgb).tolist(),
            "true_pixels": _packed(pixels),
            "true_features": _packed(self.features.pooled) if self.features else [b""] * len(self.rgb),
            "true_fid_features": _packed(self.inception) if self.inception is not None else [b""] * len(self.rgb),
        }


class Evaluator:
    """Computes metrics on one device; holds the feature networks that are available."""

    def __init__(self, device: str, area: int, lite0: Lite0 | None, supplied: Supplied) -> None:
        self.device = torch.device(device)
        self.area = area  # pixels of the models' input
        self.lite0 = lite0.to(self.device, memory_format=torch.channels_last) if lite0 else None  # type: ignore[call-overload]
        self.inception = Inception(supplied.inception).to(self.device) if supplied.inception else None
        self.lpips = Lpips(supplied.alexnet).to(self.device) if supplied.alexnet else None

    @torch.inference_mode()
    def truth(self, crops: Sequence[RGB]) -> GroundTruth:
        """Prepares ground-truth images of one size."""
        rgb = self._tensor(crops)
        inception = self.inception(rgb) if self.inception else None
        return GroundTruth(rgb, rgb_to_lab(rgb), self._features(rgb), inception, [grey_png(crop) for crop in crops])

    @torch.inference_mode()
    def compare(self, truth: GroundTruth, paint: Paint) -> dict[str, list[Any]]:
        """Metrics of one model on each image, as columns."""
        colored, confidence = zip(*color_scans(truth.scans, paint, self.area), strict=True)
        predicted = self._tensor(colored)
        lab = rgb_to_lab(predicted)
        pixels, scores = auc_by_bin(lab[:, 1:], truth.lab[:, 1:])
        return {
            "psnr": psnr(predicted, truth.rgb).tolist(),
            "psnr_ab": psnr(lab[:, 1:], truth.lab[:, 1:], AB_PEAK).tolist(),
            "ssim": ssim(predicted, truth.rgb).tolist(),
            "ciede2000": ciede2000(lab, truth.lab).mean(dim=(1, 2)).tolist(),
            "auc": (100 * scores.sum(dim=1) / pixels.sum(dim=1)).tolist(),
            "colorfulness": colorfulness(predicted).tolist(),
            "colorfulness_absolute": absolute_colorfulness(predicted).tolist(),
            "confidence": list(confidence),
            "scores": _packed(scores),
            **self._by_features(truth, predicted),
            **self._by_supplied(truth, predicted),
        }

    def _by_features(self, truth: GroundTruth, predicted: Tensor) -> dict[str, list[Any]]:
        found = self._features(predicted)
        if found is None or truth.features is None:
            nothing = [float("nan")] * len(predicted)
            return {"perceptual_lite0": nothing, "top1_lite0": nothing, "features": [b""] * len(predicted)}
        return {
            "perceptual_lite0": perceptual_distance(found.levels, truth.features.levels).tolist(),
            "top1_lite0": (100.0 * (found.classes == truth.features.classes)).tolist(),
            "features": _packed(found.pooled),
        }

    def _by_supplied(self, truth: GroundTruth, predicted: Tensor) -> dict[str, list[Any]]:
        return {
            "lpips": self.lpips(predicted, truth.rgb).tolist() if self.lpips else [float("nan")] * len(predicted),
            "fid_features": _packed(self.inception(predicted)) if self.inception else [b""] * len(predicted),
        }

    def _features(self, rgb: Tensor) -> Features | None:
        found: Features | None = self.lite0(rgb) if self.lite0 else None
        return found

    def _tensor(self, images: Sequence[RGB]) -> Tensor:
        stacked = torch.from_numpy(np.stack(images)).to(self.device)
        return stacked.permute(0, 3, 1, 2).float() / 255


def _packed(rows_BN: Tensor) -> list[bytes]:
    return [row.tobytes() for row in rows_BN.cpu().numpy().astype(np.float32)]
