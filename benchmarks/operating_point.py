"""Decodings of the default model's output: accuracy against colorfulness, on each kind of image that it is for.

    python -m benchmarks.operating_point --model default --historical historical/ --photos photos/ --cache cache/

The network runs once per view (see `distributions`); then every decoding in `decodes` is evaluated at several
saturations: RGB PSNR gain over grey, and colorfulness as a fraction of the ground truth's. The table has the gain at
equal colorfulness, interpolated between two saturations, with its 95 % interval, and the gains at the saturation at
which images like BSDS have `EVEN` of their colorfulness, since a default is one setting for all. A table of the
reliable share of predicted chroma by lightness follows, then the shipped model with default settings and all metrics of
`colorize evaluate`. These images are for making choices: other images measure what a choice is worth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import typer
from PIL import Image

from benchmarks.decodes import CANVAS, Float, GreyInput, Way, annealed, candidates, resized
from benchmarks.distributions import Distributions
from benchmarks.kinds import LEVELS, DecodedImage, historical, modern, train_colors
from benchmarks.measuring import HeldOut, measure
from colorize.imaging.color import grey_to_lightness, rgb_to_lab
from colorize.imaging.colorimetry import LUMA_WEIGHTS
from colorize.imaging.compose import chroma_offsets
from colorize.metrics import Interval, bootstrap, colorfulness, psnr
from colorize.predict.model_files import ModelFile, find_model
from colorize.predict.opening import open_colorizer
from colorize.predict.settings import ColorizerSettings
from colorize.train.losses import count_bins, rebalancing
from colorize.train.settings import LossSettings

SIDE = 128  # side in pixels of the square on which decodings are evaluated; color is upsampled the same way for all
SATURATIONS = (0.45, 0.6, 0.8, 1.0, 1.25, 1.6, 2.1)
TONES = (0, 15, 30, 45, 60, 75, 90, 100)  # L*
REFERENCE, EVEN = "like BSDS", 0.60
FIGURES = ("psnr", "colorfulness", "ciede2000", "auc", "frechet_lite0")
_PRIOR = 2000  # training images for counting bins

Curve = npt.NDArray[np.float32]  # (N, saturations, 2): PSNR and colorfulness of each image
Counts = npt.NDArray[np.float64]


class GroundTruth:
    """An original at reduced size, and the PSNR of leaving it grey."""

    def __init__(self, image: DecodedImage) -> None:
        small = Image.fromarray(image.rgb).resize((SIDE, SIDE), Image.Resampling.BOX)
        self.rgb: Float = np.asarray(np.asarray(small, np.float32).transpose(2, 0, 1) / 255, np.float32)
        self.ab = rgb_to_lab(torch.from_numpy(self.rgb))[1:].numpy()
        self.luma: Float = np.asarray(np.tensordot(np.array(LUMA_WEIGHTS), self.rgb, 1), np.float32)
        self.lightness: Float = grey_to_lightness(torch.from_numpy(self.luma)).numpy()
        self.grey, _ = self.compared(np.asarray(np.stack([self.luma] * 3), np.float32))
        _, self.colorfulness = self.compared(self.rgb)

    def compared(self, rgb: Float) -> tuple[float, float]:
        """PSNR and colorfulness."""
        ours = torch.from_numpy(np.ascontiguousarray(rgb))[None]
        return float(psnr(ours, torch.from_numpy(self.rgb)[None])), float(colorfulness(ours))

    def curve(self, ab_2hw: Float) -> Float:
        """PSNR and colorfulness of a color at each saturation."""
        color = resized(ab_2hw, SIDE)
        return np.array([self.compared(self._painted(color * np.float32(s))) for s in SATURATIONS], np.float32)

    def _painted(self, ab_2HW: Float) -> Float:
        """As `compose`, without rounding."""
        red, blue = chroma_offsets(self.luma, ab_2HW)
        green = -(LUMA_WEIGHTS[0] * red + LUMA_WEIGHTS[2] * blue) / np.float32(LUMA_WEIGHTS[1])
        return np.asarray(self.luma + np.stack((red, green, blue)), np.float32)


def curve_of(way: Way, known: Distributions, truths: Sequence[GroundTruth]) -> Curve:
    """The results of a decoding on every image."""
    return np.stack([truth.curve(way(GreyInput(known, i, truth.lightness))) for i, truth in enumerate(truths)])


class Kind:
    """The images of one kind: from their curves to gains."""

    def __init__(self, name: str, images: Sequence[DecodedImage], truths: Sequence[GroundTruth]) -> None:
        self.members = [i for i, image in enumerate(images) if image.kind == name]
        self.grey = np.array([truths[i].grey for i in self.members])
        self.colorfulness = np.array([truths[i].colorfulness for i in self.members])

    def trade(self, curve: Curve, counts: Counts) -> tuple[Counts, Counts]:
        """Gain and colorfulness `(R, saturations)` of resamples `(R, N)`, with N counted within this kind."""
        own = curve[self.members].astype(np.float64)
        gain = counts @ (own[:, :, 0] - self.grey[:, None]) / len(self.members)
        return gain, counts @ own[:, :, 1] / (counts @ self.colorfulness)[:, None]

    def gain_at(self, curve: Curve, level: float, counts: Counts) -> Counts:
        """`(R,)`, interpolated between two saturations; NaN outside their range."""
        pairs = zip(*self.trade(curve, counts), strict=True)
        return np.array([np.interp(level, vivid, gain, np.nan, np.nan) for gain, vivid in pairs])

    def interval(self, curve: Curve, level: float) -> Interval:
        """The gain at this colorfulness."""
        statistic = partial(self.gain_at, curve, level)
        return bootstrap({"gain": statistic}, len(self.members), resamples=500)["gain"]

    def at_saturation(self, curve: Curve, saturation: float) -> str:
        """Gain / colorfulness there."""
        gain, vivid = (values[0] for values in self.trade(curve, np.ones((1, len(self.members)))))
        return f"{np.interp(saturation, SATURATIONS, gain):+.2f} / {np.interp(saturation, SATURATIONS, vivid):.0%}"

    def saturation_at(self, curve: Curve, level: float) -> float:
        """The saturation at which the kind has this colorfulness."""
        _, vivid = self.trade(curve, np.ones((1, len(self.members))))
        return float(np.interp(level, vivid[0], SATURATIONS))


def table(curves: Mapping[str, Curve], kinds: Mapping[str, Kind]) -> Iterator[str]:
    """Markdown with a row per decoding."""
    heads = [f"{kind} at {level:.0%}" for kind, levels in LEVELS.items() for level in levels]
    heads += [f"saturation for {EVEN:.0%} {REFERENCE}", *(f"{kind} there" for kind in LEVELS)]
    yield f"| decode | {' | '.join(heads)} |"
    yield "|" + " --- |" * (len(heads) + 1)
    for name, curve in curves.items():
        found = [kinds[kind].interval(curve, level) for kind, levels in LEVELS.items() for level in levels]
        cells = [f"{gain.value:+.2f} ({gain.low:+.2f} to {gain.high:+.2f})" for gain in found]
        saturation = kinds[REFERENCE].saturation_at(curve, EVEN)
        cells += [f"{saturation:.2f}", *(kinds[kind].at_saturation(curve, saturation) for kind in LEVELS)]
        yield f"| {name} | {' | '.join(cells)} |"


def as_shipped(model: ModelFile, images: Sequence[DecodedImage], settings: ColorizerSettings) -> Iterator[str]:
    """All metrics of the model as used, by kind, as Markdown."""
    color = open_colorizer(model.data, settings).color
    yield f"| kind | images | {' | '.join(FIGURES)} | true colorfulness |"
    yield "|" + " --- |" * (len(FIGURES) + 3)
    for kind in LEVELS:
        members = [HeldOut(image.path, image.rgb) for image in images if image.kind == kind]
        found = measure({"it": partial(color, confidence=False)}, members)["it"]
        cells = [f"{found[f].value:.2f} ({found[f].low:.2f} to {found[f].high:.2f})" for f in FIGURES]
        yield f"| {kind} | {len(members)} | {' | '.join(cells)} | {found['true_colorfulness'].value:.2f} |"


def by_lightness(known: Distributions, images: Sequence[DecodedImage], truths: Sequence[GroundTruth]) -> Iterator[str]:
    """The reliable share of predicted chroma by lightness: least squares of true on mean ab, through 0; Markdown."""
    yield f"| L* of the cell | {' | '.join(LEVELS)} |"
    yield "|" + " --- |" * (len(LEVELS) + 1)
    sums = {kind: np.zeros((2, len(TONES) - 1)) for kind in LEVELS}
    for index, (image, truth) in enumerate(zip(images, truths, strict=True)):
        seen = GreyInput(known, index, truth.lightness)
        ours = annealed(seen, CANVAS, temperature=1.0)
        true = resized(truth.ab, ours.shape[1])
        for row, values in enumerate((ours * true, ours * ours)):
            tones = np.histogram(seen.lightness_of(ours), TONES, weights=values.sum(axis=0))[0]
            sums[image.kind][row] += tones
    slopes = [true / square for true, square in sums.values()]
    for tone, (low, high) in enumerate(pairwise(TONES)):
        yield f"| {low} to {high} | {' | '.join(f'{slope[tone]:.2f}' for slope in slopes)} |"


def log_weights(photos: Path, bins_Q2: Float) -> Float:
    """The log weights of the bins in the default training, from a sample of its images."""
    bins, loss = torch.from_numpy(bins_Q2), LossSettings()
    counts = sum((count_bins(ab, bins) for ab in train_colors(photos, _PRIOR)), torch.zeros(len(bins)))
    return rebalancing(counts, loss.uniform, loss.rebalance).log().numpy()


def main(
    historical_folder: Annotated[Path, typer.Option("--historical", help="originals and `provenance.csv`")],
    photos: Annotated[Path, typer.Option(help="Parquet photographs with the splits `train` and `val`")],
    kept: Annotated[Path, typer.Option("--cache", help="folder for the network's distributions, 1 to 2 GB")],
    model: Annotated[str, typer.Option(help="as for `colorize evaluate`")] = "default",
    only: Annotated[list[str] | None, typer.Option(help="name of a decoding, repeatable; default: all")] = None,
    threads: Annotated[int, typer.Option(help="threads for decoding")] = 2,
) -> None:
    """Prints three Markdown tables."""
    images = [*historical(historical_folder), *modern(photos)]
    found = find_model(model)
    known = Distributions(found, images, kept)
    ways = candidates(cache(partial(log_weights, photos, known.bins_Q2)))
    chosen = {name: ways[name] for name in only or ways}
    for view in {CANVAS, *(view for way in chosen.values() for view in way.views)}:
        known.prepare(view)
    truths = [GroundTruth(image) for image in images]
    with ThreadPoolExecutor(threads) as pool:  # NumPy and torch release the GIL
        measured = pool.map(partial(curve_of, known=known, truths=truths), chosen.values())
        curves = dict(zip(chosen, measured, strict=True))
    for line in table(curves, {kind: Kind(kind, images, truths) for kind in LEVELS}):
        print(line, flush=True)
    for line in by_lightness(known, images, truths):
        print(line, flush=True)
    for line in as_shipped(found, images, ColorizerSettings()):
        print(line, flush=True)


if __name__ == "__main__":
    typer.run(main)
