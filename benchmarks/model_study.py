"""The study behind `default`: variants of `unet` and of its loss, each trained on the same number of images.

    python -m benchmarks.model_study --data photos/ --output study/ --scans archive/

Variants are trained one after the other, each in a run folder of `colorize train` under the output, with the same seed
and schedule. The study can be killed at any time: finished variants are skipped, and an interrupted one resumes from
its last epoch. Variants are evaluated on the "choice" half of the held-out images (see `measuring`), as they are and
at the saturation at which all are equally colorful, because less colorful output is closer to the ground truth merely
by being duller. `table.md` and `scans.jpg` in the output cover the finished variants.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image, ImageDraw, ImageFont

from benchmarks.measuring import HeldOut, held_out, measure
from colorize.evaluate.candidates import Paint, leave_grey
from colorize.imaging.compose import exact_rgb
from colorize.imaging.formats import decode_small
from colorize.models.checkpoint import load_checkpoint
from colorize.predict.colorizer import Colorizer
from colorize.predict.torch_network import torch_colorizer
from colorize.settings import load_settings
from colorize.train.display import Display
from colorize.train.epoch_plan import plan_epoch
from colorize.train.feed import Feed
from colorize.train.loop import train
from colorize.train.reading import open_training_source
from colorize.train.run import Run
from colorize.train.run_folder import CONFIG as RUN_CONFIG
from colorize.train.run_folder import RunFolder
from colorize.train.settings import TrainSettings
from colorize.train.single import open_feed

log = logging.getLogger("study")
Figures = dict[str, list[float]]  # by name: value, lower and upper end of its 95 % interval

CONFIG = Path(__file__).parents[2] / "configs/train/unet.yaml"
FIGURES, BUDGET = "figures.json", "budget.json"
EPOCHS = 2  # a kill loses half of a variant
EVEN = 0.6  # colorfulness, as a fraction of the ground truth's, at which variants are also compared
MOST_SATURATION = 3.0
_CLEAN = [f"augment.p_{damage}=0" for damage in ("spectrum", "blur", "gamma", "fade", "shade", "grain", "scratches")]

# Changes of each variant to the recipe of `default`. The first is that recipe; the next two show the random variation.
VARIANTS: dict[str, list[str]] = {
    "default": [],
    "default, second seed": ["seed=1"],
    "default, third seed": ["seed=2"],
    "from scratch": ["model.pretrained=false", "model.frozen_stages=0"],
    "regression, Huber": ["model.args.head=regression"],
    "32 color queries": ["model.args.head=queries", "model.args.queries=32"],
    "no film damage": _CLEAN,
    "half-size color": ["model.args.output_stride=2"],
    "perceptual loss": ["loss.perceptual=1.0"],
    "colorfulness loss": ["loss.colorfulness=0.5"],
    "late discriminator": ["adversarial={loss_weight: 10, after: 0.7, width: 32}", "optimizer.clip_norm=20"],
    "no rebalancing": ["loss.rebalance=0"],
    "full rebalancing": ["loss.rebalance=1"],
    "regression, L1": ["model.args.head=regression", "loss.name=l1"],
    "50 color queries": ["model.args.head=queries", "model.args.queries=50"],
    "queries, colorfulness": ["model.args.head=queries", "model.args.queries=32", "loss.colorfulness=0.5"],
}


def recipe(variant: str, samples: int, batch: int, limit: int) -> TrainSettings:
    """The settings of a variant: those of `default`, its changes, and the common budget."""
    budget = [
        f"trainer.epochs={EPOCHS}", f"trainer.epoch_steps={samples // batch // EPOCHS}", f"trainer.batch_size={batch}",
        "trainer.sizes=[128]", f"data.limit={limit}", "validation.size=128", "validation.limit=32",
        "validation.samples=4",
    ]  # fmt: skip
    return load_settings(TrainSettings, CONFIG, [*VARIANTS[variant], *budget])


def require_same_budget(output: Path, budget: dict[str, int]) -> None:
    """Saves the study's budget; raises BadParameter if another is saved, since results would not compare."""
    file = output / BUDGET
    begun = json.loads(file.read_text()) if file.exists() else budget
    if changed := [f"--{name} {begun[name]}" for name in budget if begun[name] != budget[name]]:
        raise typer.BadParameter(f"{output} was begun with {' '.join(changed)}: say so again, or give another --output")
    output.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(budget))


def train_variant(variant: str, settings: TrainSettings, feed: Feed, folder: Path) -> Path:
    """Trains a variant to its end, or resumes it; returns its last weights."""
    weights = folder / f"checkpoints/epoch-{EPOCHS:03d}.safetensors"
    if not weights.exists():
        log.info("training %s", variant)
        claimed = RunFolder(folder, settings).claim(resume=(folder / RUN_CONFIG).exists())
        with Display() as display:
            train(Run(settings, claimed, feed, torch.device("cpu"), display))
    return weights


def paint_of(weights: Path, saturation: float = 1.0) -> Paint:
    """A colorizer with these weights, as in use."""
    model = load_checkpoint(weights.read_bytes()).model
    return partial(torch_colorizer(model, saturation=saturation).color, confidence=False)


def figures_of(paint: Paint, images: list[HeldOut]) -> Figures:
    """Value, lower and upper end of each metric."""
    found = measure({"it": paint}, images)["it"]
    return {name: [interval.value, interval.low, interval.high] for name, interval in found.items()}


def figures_of_weights(weights: Path, images: list[HeldOut]) -> Figures:
    """The metrics, and `even_*` at the saturation that makes all variants equally colorful."""
    plain = figures_of(paint_of(weights), images)
    saturation = min(EVEN * plain["true_colorfulness"][0] / plain["colorfulness"][0], MOST_SATURATION)
    even = figures_of(paint_of(weights, saturation), images)
    return plain | {f"even_{name}": values for name, values in even.items()}


def vividness(figures: Figures, prefix: str = "") -> float:
    """Colorfulness as a fraction of the ground truth's."""
    return figures[f"{prefix}colorfulness"][0] / figures["true_colorfulness"][0]


def table(output: Path) -> list[str]:
    """The finished variants as Markdown: grey first, then in the study's order."""
    heads = ["variant", "RGB PSNR (95 %)", "ab PSNR", "CIEDE2000", "AuC, rebalanced", "Lite0 Frechet", "colorfulness"]
    heads += ["at equal colorfulness: RGB PSNR, Lite0 Frechet, colorfulness"]
    lines = [f"| {' | '.join(heads)} |", "| " + " | ".join(["---"] * len(heads)) + " |"]
    for variant in ("grey", *VARIANTS):
        path = folder_of(output, variant) / FIGURES
        if path.exists():
            lines.append(_line(variant, json.loads(path.read_text())))
    return lines


def _line(variant: str, found: Figures) -> str:
    psnr, low, high = found["psnr"]
    values = [
        f"{psnr:.2f} dB ({low:.2f} to {high:.2f})",
        f"{found['psnr_ab'][0]:.2f} dB",
        f"{found['ciede2000'][0]:.2f}",
    ]
    values += [f"{found['auc_rebalanced'][0]:.1f} %", f"{found['frechet_lite0'][0]:.1f}"]
    values.append(f"{vividness(found):.0%}")
    even = "-"
    if "even_psnr" in found:
        even = f"{found['even_psnr'][0]:.2f} dB, {found['even_frechet_lite0'][0]:.1f}, {vividness(found, 'even_'):.0%}"
    values.append(even)
    return f"| {' | '.join([variant, *values])} |"


def folder_of(output: Path, variant: str) -> Path:
    """A variant's run folder: its name without spaces and commas."""
    return output / variant.replace(",", "").replace(" ", "-").lower()


def sheet(weights: dict[str, Path], scans: Path, height: int = 144) -> Image.Image:
    """A row for each scan of a folder: grey, then colored by each variant."""
    files = sorted(path for path in scans.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    colorizers = [torch_colorizer(load_checkpoint(path.read_bytes()).model) for path in weights.values()]
    rows = [_row(path, colorizers, height) for path in files]
    page = Image.new("RGB", (max(row.width for row in rows), height * len(rows) + 20), "white")
    for number, row in enumerate(rows):
        page.paste(row, (0, 20 + number * height))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    draw.text((4, 2), "grey | " + " | ".join(weights), "black", font)
    return page


def _row(path: Path, colorizers: list[Colorizer], height: int) -> Image.Image:
    grey = decode_small(path.read_bytes(), 320 * 320, max_pixels=1 << 28).luma
    panels = [np.repeat(grey[:, :, None], 3, axis=2)]
    panels += [exact_rgb(grey, colorizer([grey])[0].astype(np.float32)).astype(np.uint8) for colorizer in colorizers]
    width = round(grey.shape[1] * height / grey.shape[0])
    small = [Image.fromarray(panel).resize((width, height), Image.Resampling.LANCZOS) for panel in panels]
    return Image.fromarray(np.hstack([np.asarray(panel) for panel in small]))


def main(
    data: Annotated[Path, typer.Option(help="Parquet photographs, as for training")],
    output: Annotated[Path, typer.Option(help="folder of a new or interrupted study")],
    scans: Annotated[Path | None, typer.Option(help="folder of grey images for the sheet")] = None,
    only: Annotated[list[str] | None, typer.Option(help="name of a variant, repeatable; default: all")] = None,
    samples: Annotated[int, typer.Option(help="training images per variant, with repetition")] = 4096,
    batch: Annotated[int, typer.Option(help="batch size")] = 16,
    limit: Annotated[int, typer.Option(help="photographs decoded and cached in memory")] = 4096,
    images: Annotated[int, typer.Option(help="held-out images to evaluate")] = 256,
    side: Annotated[int, typer.Option(help="side of the square crops to evaluate")] = 128,
) -> None:
    """Trains and evaluates missing variants, then writes table and sheet."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    require_same_budget(output, {"samples": samples, "batch": batch, "limit": limit, "pictures": images, "side": side})
    settings = recipe("default", samples, batch, limit)
    source = open_training_source(str(data), settings.data)
    feed = open_feed(source, settings, plan_epoch(source, settings.data), torch.device("cpu"))
    truths = held_out(data, "choice", images, side)
    finished: dict[str, Path] = {}
    _save(folder_of(output, "grey"), partial(figures_of, leave_grey, truths))
    for variant in only or list(VARIANTS):
        folder = folder_of(output, variant)
        finished[variant] = train_variant(variant, recipe(variant, samples, batch, limit), feed, folder)
        _save(folder, partial(figures_of_weights, finished[variant], truths))
        (output / "table.md").write_text("\n".join(table(output)) + "\n")
        log.info("%s", _line(variant, json.loads((folder / FIGURES).read_text())))
        if scans is not None:
            sheet(finished, scans).save(output / "scans.jpg", quality=85)


def _save(folder: Path, figures: Callable[[], Figures]) -> None:
    if not (folder / FIGURES).exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FIGURES).write_text(json.dumps(figures(), indent=1))


if __name__ == "__main__":
    typer.run(main)
