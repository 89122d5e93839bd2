"""PSNR gain over grey at equal colorfulness, by kind of image, for several checkpoints with the same decoding.

    python -m benchmarks.compare_weights first.safetensors second.safetensors --historical historical/ --photos photos/

Less colorful output is closer to the ground truth merely by being duller, so checkpoints are compared at equal
colorfulness: colors are scaled by `SATURATIONS`, and the gain is interpolated between two of them. It takes seconds per
network on a GPU and a minute on CPUs; `operating_point` adds intervals and more metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import typer
from torch import Tensor
from torch.nn import functional as F

from benchmarks.kinds import LEVELS as ALL_LEVELS
from benchmarks.kinds import DecodedImage, historical, modern
from colorize.imaging.color import grey_to_lightness, luma
from colorize.metrics import colorfulness, psnr
from colorize.models import ColorModel
from colorize.models.checkpoint import load_checkpoint
from colorize.predict.model_files import find_model
from colorize.train.validation import composed_rgb

# DOCUMERICA is excluded: its slides are faded, and so is their ground truth.
LEVELS = {kind: levels[0] for kind, levels in ALL_LEVELS.items() if kind != "Documerica"}
SATURATIONS = (0.3, 0.45, 0.6, 0.8, 1.0, 1.25, 1.6, 2.1, 2.8)
CANVAS, SIDE, BATCH = 192, 128, 32

Trade = npt.NDArray[np.float32]  # (saturations, 3, N): gain, colorfulness and ground truth colorfulness of each image


@torch.inference_mode()
def trade(model: ColorModel, rgb_N3HW: Tensor) -> Trade:
    """The gain of each image at each saturation.

    Args:
        model: in eval mode.
        rgb_N3HW: uint8, on the model's device.
    """
    return np.concatenate([_measured(model, rgb.float() / 255) for rgb in torch.split(rgb_N3HW, BATCH)], axis=2)


def _measured(model: ColorModel, rgb_B3HW: Tensor) -> Trade:
    seen = F.interpolate(luma(rgb_B3HW), (CANVAS, CANVAS), mode="bicubic", antialias=True, align_corners=False)
    ab = F.interpolate(model(grey_to_lightness(seen.clamp(0, 1))), (SIDE, SIDE), mode="bilinear", align_corners=False)
    true = F.interpolate(rgb_B3HW, (SIDE, SIDE), mode="area")
    grey = luma(true)
    left_grey, true_colorfulness = psnr(grey.expand_as(true), true), colorfulness(true)
    rows = []
    for saturation in SATURATIONS:
        ours = composed_rgb(grey, ab * saturation)
        rows.append(torch.stack((psnr(ours, true) - left_grey, colorfulness(ours), true_colorfulness)))
    return torch.stack(rows).cpu().numpy()


def gain_at(found: Trade, level: float) -> float:
    """The mean gain where the mean colorfulness is this fraction of the ground truth's."""
    vivid = found[:, 1].mean(axis=1) / found[:, 2].mean(axis=1)
    return float(np.interp(level, vivid, found[:, 0].mean(axis=1), np.nan, np.nan))


def row(name: str, found: Trade, images: Sequence[DecodedImage]) -> str:
    """A table row."""
    kinds = np.array([image.kind for image in images])
    gains = [gain_at(found[:, :, kinds == kind], level) for kind, level in LEVELS.items()]
    return f"| {name} | {' | '.join(f'{gain:+.2f}' for gain in [*gains, float(np.mean(gains))])} |"


def main(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="as for `colorize evaluate`")],
    historical_folder: Annotated[Path, typer.Option("--historical", help="originals and `provenance.csv`")],
    photos: Annotated[Path, typer.Option(help="Parquet photographs with the split `val`")],
) -> None:
    """Prints a Markdown table with a row per model."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = [*historical(historical_folder), *modern(photos)]
    rgb = torch.stack([torch.from_numpy(image.rgb.copy()) for image in images]).permute(0, 3, 1, 2).to(device)
    print(f"| weights | {' | '.join(f'{kind} at {level:.0%}' for kind, level in LEVELS.items())} | mean |")
    print("|" + " --- |" * (len(LEVELS) + 2))
    for name in models:
        model = load_checkpoint(find_model(name).data).model.to(device)
        print(row(Path(name).stem, trade(model, rgb), images), flush=True)


if __name__ == "__main__":
    typer.run(main)
