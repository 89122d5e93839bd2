"""Temperature and saturation, swept: what each costs in accuracy and brings in color; and what the guard changes.

    python -m benchmarks.temperature --data photos/ [--model default] [--scans archive/ --sheet sheet.jpg]

Measured with `colorize evaluate`'s figures on the "choice" half of the held-out pictures (see `measuring`), so that the
other half still says what a choice is worth. `--half report` measures that one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated
from unittest.mock import patch

import numpy as np
import torch
import typer
from PIL import Image

from benchmarks.measuring import Half, HeldOut, held_out, measure
from colorize.evaluate.contestants import Paint
from colorize.imaging.blotches import tame
from colorize.imaging.compose import exact_rgb
from colorize.imaging.formats import decode_small
from colorize.metrics import Interval
from colorize.models.checkpoint import load_checkpoint
from colorize.predict import colorizer as network
from colorize.predict.colorizer import Colorizer
from colorize.predict.model_files import find_model
from colorize.predict.settings import ColorizerSettings

TEMPERATURES = (0.15, 0.25, 0.38, 0.6, 1.0)
SATURATIONS = (1.0, 1.2, 1.4)
SHOWN = 512 * 384  # pixels of a picture on the sheet


def paint_with(model: bytes, temperature: float | None, saturation: float) -> Paint:
    """Colors as the bulk job does with these settings."""
    settings = ColorizerSettings(temperature=temperature, saturation=saturation)
    return partial(Colorizer.configured(load_checkpoint(model).model, settings).color, confidence=False)


def sweep(model: bytes, temperatures: Sequence[float | None]) -> dict[str, Paint]:
    """A way to color for each pair, by the cells that its row of the table begins with."""
    return {
        f"{'own' if temperature is None else temperature} | {saturation}": paint_with(model, temperature, saturation)
        for temperature in temperatures
        for saturation in SATURATIONS
    }


def table(found: Mapping[str, Mapping[str, Interval]]) -> list[str]:
    """Markdown, a row a pair."""
    heads = ["temperature", "saturation", "RGB PSNR (95 %)", "ab PSNR", "CIEDE2000", "Lite0 Frechet", "colorfulness"]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for pair, figures in found.items():
        psnr, vivid = figures["psnr"], figures["colorfulness"].value / figures["true_colorfulness"].value
        cells = [f"{psnr.value:.2f} dB ({psnr.low:.2f} to {psnr.high:.2f})", f"{figures['psnr_ab'].value:.2f} dB"]
        cells += [f"{figures['ciede2000'].value:.2f}", f"{figures['frechet_lite0'].value:.1f}", f"{vivid:.0%}"]
        lines.append(f"| {pair} | {' | '.join(cells)} |")
    return lines


def guard(model: bytes, pictures: list[HeldOut]) -> list[str]:
    """How many pictures the guard touches, how far it moves them, and what that does to the PSNR."""
    with patch.object(network, "tame", lambda ab: ab):
        without = measure({"it": paint_with(model, None, 1.0)}, pictures)["it"]["psnr"].value
        greys = [np.asarray(Image.fromarray(picture.rgb).convert("L")) for picture in pictures]
        colors = [ab.astype(np.float32) for ab in Colorizer(load_checkpoint(model).model)(greys)]
    with_it = measure({"it": paint_with(model, None, 1.0)}, pictures)["it"]["psnr"].value
    moved = [float(np.hypot(*(tame(ab) - ab)).max()) for ab in colors]
    touched = sum(distance > 0 for distance in moved)
    return [
        f"guard: touches {touched} of {len(moved)} pictures, the most changed cell by {max(moved):.1f} Lab units; "
        f"PSNR {without:.4f} dB without, {with_it:.4f} dB with it"
    ]


def sheet(model: bytes, scans: Path) -> Image.Image:
    """The scans that the guard changes, at a low temperature and a high saturation: without it, and with it."""
    bold = Colorizer.configured(load_checkpoint(model).model, ColorizerSettings(temperature=0.1, saturation=1.5))
    rows = []
    for path in sorted(p for p in scans.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")):
        grey = decode_small(path.read_bytes(), SHOWN, max_pixels=1 << 28).luma
        with patch.object(network, "tame", lambda ab: ab):
            ab = bold([grey])[0].astype(np.float32)
        if tame(ab) is not ab:
            pair = np.hstack([exact_rgb(grey, color).astype(np.uint8) for color in (ab, tame(ab))])
            rows.append(Image.fromarray(pair).resize((800, round(pair.shape[0] * 800 / pair.shape[1]))))
    page = Image.new("RGB", (800, max(1, sum(row.height for row in rows))), "white")
    top = 0
    for row in rows:
        page.paste(row, (0, top))
        top += row.height
    return page


def main(
    data: Annotated[Path, typer.Option(help="Parquet photographs with a split `val`")],
    model: Annotated[str, typer.Option(help="as for `colorize evaluate`")] = "default",
    pictures: Annotated[int, typer.Option(help="held-out pictures that are measured")] = 200,
    side: Annotated[int, typer.Option(help="of the square crops that are measured")] = 128,
    half: Annotated[Half, typer.Option(help="of the held-out pictures")] = "choice",
    temperatures: Annotated[bool, typer.Option(help="sweep them; else only the saturation")] = True,
    scans: Annotated[Path | None, typer.Option(help="a folder of grey pictures, for the sheet")] = None,
    sheet_path: Annotated[Path | None, typer.Option("--sheet", help="where it goes")] = None,
) -> None:
    """Prints the guard's line, then a Markdown table."""
    torch.set_grad_enabled(False)
    found = find_model(model)
    truths = held_out(data, half, pictures, side)
    if scans is not None and sheet_path is not None:
        sheet(found.data, scans).save(sheet_path, quality=88)
    for line in guard(found.data, truths):
        print(line, flush=True)
    ways = sweep(found.data, TEMPERATURES if temperatures else (None,))
    for line in table(measure(ways, truths)):
        print(line, flush=True)


if __name__ == "__main__":
    typer.run(main)
