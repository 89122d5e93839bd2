"""Does a network's confidence find the images whose colors are wrong? Ways to say how sure it is, kind by kind.

    python -m benchmarks.confidence --model default --historical historical/ --photos photos/ --cache cache/

The network runs once a view (see `distributions`). Each way makes one number of an image, the larger the more
doubtful, and is held against the image's mean CIEDE2000: Spearman's rank correlation with its 95 % interval, the
error of the most doubtful tenth against that of the others, and whether it tells the images that had better stayed
grey (area under the ROC curve, 0.5 being chance). Ways of one view cost little; "mirrored" runs the network twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from PIL import Image
from torch import Tensor

from benchmarks.decodes import CANVAS, resized
from benchmarks.distributions import Distributions, View
from benchmarks.kinds import DecodedImage, historical, modern
from colorize.imaging.color import grey_to_lightness, rgb_to_lab
from colorize.imaging.colorimetry import LUMA_WEIGHTS
from colorize.imaging.compose import chroma_offsets
from colorize.metrics import Interval, bootstrap, ciede2000
from colorize.models import BinModel
from colorize.models.base import entropy
from colorize.models.checkpoint import load_checkpoint
from colorize.models.unet import fading
from colorize.predict.model_files import find_model

SIDE = 128  # pixels of the square in which errors are measured
MIRRORED = View(CANVAS.size, mirrored=True)
OLD = ("Kodachromes", "Documerica", "Prokudin-Gorskii")
SHADOWS = 45.0  # L* below which the errors that are possible shrink

Floats = npt.NDArray[np.float64]


class Doubted:
    """An image, and what a network says of it on the standard canvas."""

    def __init__(self, known: Distributions, network: BinModel, image: DecodedImage, index: int) -> None:
        self.known, self.network, self.index = known, network, index
        scaled = Image.fromarray(image.rgb).convert("L").resize((CANVAS.size, CANVAS.size), Image.Resampling.BICUBIC)
        self.L = grey_to_lightness(torch.from_numpy(np.asarray(scaled, np.float32) / 255))[None, None]
        self.rgb = np.asarray(Image.fromarray(image.rgb).resize((SIDE, SIDE), Image.Resampling.BOX), np.float32) / 255

    def logits(self, view: View = CANVAS) -> Tensor:
        """`(1, Q, h, w)`"""
        return torch.from_numpy(self.known.of(self.index, view))[None]

    def color_from(self, view: View = CANVAS) -> Tensor:
        """The color as used, `(2, h, w)`."""
        return self.network.color_from(self.logits(view), self.L)[0]

    @cached_property
    def ab(self) -> Tensor:
        """The same, of the canvas that is used."""
        return self.color_from()

    @cached_property
    def p(self) -> Tensor:
        """Probabilities of the bins, `(Q, h, w)`."""
        return self.logits()[0].softmax(dim=0)

    @cached_property
    def chroma(self) -> Tensor:
        """Of the color as used, `(h, w)`."""
        chroma: Tensor = torch.linalg.vector_norm(self.ab, dim=0)
        return chroma

    @cached_property
    def entropy(self) -> Tensor:
        """Of each distribution, 0 to 1, `(h, w)`."""
        return entropy(self.logits())[0]

    @cached_property
    def light(self) -> Tensor:
        """L* of each cell, `(h, w)`."""
        return torch.nn.functional.adaptive_avg_pool2d(self.L, (self.ab.shape[1], self.ab.shape[2]))[0, 0]

    @cached_property
    def distance(self) -> Tensor:
        """How far the color as used is from each bin, Lab units, `(Q, h, w)`."""
        distance: Tensor = torch.linalg.vector_norm(self.network.bins_Q2[:, :, None, None] - self.ab, dim=1)
        return distance

    @cached_property
    def expected(self) -> Tensor:
        """The distance that the distribution expects, `(h, w)`."""
        return (self.p * self.distance).sum(dim=0)

    @cached_property
    def difference(self) -> Tensor:
        """The CIEDE2000 that the distribution expects, the color as used being that of the nearest bin, `(h, w)`."""
        bins = self.network.bins_Q2
        between = ciede2000(at_one_lightness(bins.T[:, :, None]), at_one_lightness(bins.T[:, None]))[0]
        return (self.p * between[self.distance.argmin(dim=0)].permute(2, 0, 1)).sum(dim=0)

    def errors(self) -> tuple[float, float]:
        """The mean CIEDE2000 of the image as colored, and of the image left grey."""
        luma = np.asarray(np.tensordot(self.rgb, np.array(LUMA_WEIGHTS, np.float32), 1), np.float32)
        red, blue = chroma_offsets(luma, resized(self.ab.numpy(), SIDE))
        green = -(LUMA_WEIGHTS[0] * red + LUMA_WEIGHTS[2] * blue) / LUMA_WEIGHTS[1]
        true = _lab(self.rgb.transpose(2, 0, 1))
        ours, grey = _lab(luma + np.stack((red, green, blue))), _lab(np.stack([luma] * 3))
        return tuple(ciede2000(each, true).mean().item() for each in (ours, grey))  # type: ignore[return-value]


def at_one_lightness(ab_2HW: Tensor) -> Tensor:
    """Lab `(1, 3, H, W)`: of two colors of one lightness CIEDE2000 asks for no more."""
    return torch.cat((torch.full_like(ab_2HW[:1], 60.0), ab_2HW))[None]


def _lab(rgb: npt.NDArray[Any]) -> Tensor:
    return rgb_to_lab(torch.from_numpy(np.ascontiguousarray(rgb, np.float32)).clamp(0, 1)[None])


def by_chroma(values: Tensor, seen: Doubted) -> Tensor:
    """Their mean, weighted by chroma."""
    return (values * seen.chroma).sum() / seen.chroma.sum()


def spread(seen: Doubted) -> Tensor:
    """Standard deviation of each distribution around its mean, Lab units."""
    bins = seen.network.bins_Q2
    mean = torch.einsum("qhw,qc->chw", seen.p, bins)
    return (torch.einsum("qhw,q->hw", seen.p, bins.square().sum(dim=1)) - mean.square().sum(dim=0)).clamp(min=0).sqrt()


def root_mean_square(seen: Doubted) -> Tensor:
    """Of the distance, place by place."""
    return (seen.p * seen.distance.square()).sum(dim=0).sqrt()


def mirrored(seen: Doubted) -> Tensor:
    """How far the mirrored image's colors are, Lab units."""
    distance: Tensor = torch.linalg.vector_norm(seen.ab - seen.color_from(MIRRORED), dim=0)
    return distance.mean()


def shaded(seen: Doubted) -> Tensor:
    """What shrinks in the shade as chroma does."""
    return fading(seen.light, SHADOWS)


Way = Callable[[Doubted], Tensor]
WAYS: Mapping[str, Way] = {
    "entropy (before)": lambda seen: seen.entropy.mean(),
    "entropy by chroma": lambda seen: by_chroma(seen.entropy, seen),
    "unlikely: 1 - largest probability": lambda seen: 1 - seen.p.amax(dim=0).mean(),
    "spread": lambda seen: spread(seen).mean(),
    "spread by chroma": lambda seen: by_chroma(spread(seen), seen),
    "root mean square distance": lambda seen: root_mean_square(seen).mean(),
    "distance": lambda seen: seen.expected.mean(),
    "distance by chroma": lambda seen: by_chroma(seen.expected, seen),
    "CIEDE2000": lambda seen: seen.difference.mean(),
    "CIEDE2000 by chroma": lambda seen: by_chroma(seen.difference, seen),
    "area: chroma > 10, CIEDE2000 > 16": lambda seen: ((seen.chroma > 10) & (seen.difference > 16)).float().mean(),
    "chroma": lambda seen: seen.chroma.mean(),
    "lightness": lambda seen: seen.light.mean(),
    "mirrored": mirrored,
    "entropy, shadows": lambda seen: (seen.entropy * shaded(seen)).mean(),
    "CIEDE2000, shadows": lambda seen: (seen.difference * shaded(seen)).mean(),
    "distance, shadows": lambda seen: (seen.expected * shaded(seen)).mean(),
    "distance, shadows, and mirrored": lambda seen: (seen.expected * shaded(seen)).mean() * mirrored(seen) ** 0.3,
    "as shipped": lambda seen: seen.network.uncertainty(seen.logits(), seen.ab[None], seen.L).mean(),
}


def ranks(values: Floats) -> Floats:
    """Ranks from 0."""
    return np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(np.float64)


def rank_correlation(uncertainty: Floats, error: Floats) -> Interval:
    """Spearman's, with its bootstrap interval: images are drawn again, their ranks stay."""
    x, y = ranks(uncertainty), ranks(error)

    def correlation(counts: Floats) -> Floats:
        n = counts.sum(axis=1)
        mean = {name: counts @ values / n for name, values in (("x", x), ("y", y), ("xy", x * y))}
        spreads = [counts @ (values**2) / n - (counts @ values / n) ** 2 for values in (x, y)]
        product = np.maximum(spreads[0] * spreads[1], 1e-12)  # 0 where one image alone was drawn
        return np.asarray((mean["xy"] - mean["x"] * mean["y"]) / np.sqrt(product))

    return bootstrap({"rho": correlation}, len(x))["rho"]


def tenths(uncertainty: Floats, error: Floats) -> tuple[float, float]:
    """The mean error of the most doubtful tenth, and of the others."""
    order, tenth = np.argsort(-uncertainty, kind="stable"), max(1, len(uncertainty) // 10)
    return float(error[order[:tenth]].mean()), float(error[order[tenth:]].mean())


def area_under_roc(uncertainty: Floats, wrong: npt.NDArray[np.bool_]) -> float:
    """How likely a wrong image is the more doubtful one of two, the other being right: Mann and Whitney's U."""
    count = int(wrong.sum())
    pairs = count * (len(uncertainty) - count)
    return float((ranks(uncertainty)[wrong].sum() - count * (count - 1) / 2) / pairs) if pairs else float("nan")


def groups(images: Sequence[DecodedImage]) -> dict[str, npt.NDArray[np.bool_]]:
    """Which images are of each kind, of the historical ones, and of the modern ones."""
    kinds = np.array([image.kind for image in images])
    old = np.isin(kinds, OLD)
    members = {kind: kinds == kind for kind in dict.fromkeys(kinds.tolist())} | {"historical": old, "modern": ~old}
    return {name: chosen for name, chosen in members.items() if chosen.any()}


def table(
    uncertainties: Mapping[str, Floats], errors: Floats, grey: Floats, members: Mapping[str, npt.NDArray[np.bool_]]
) -> Iterator[str]:
    """Markdown, a row a way; the pooled groups, the last two, have their tenths and areas, too."""
    pooled = list(members)[-2:]
    heads = [f"{name} ({chosen.sum()}, error {errors[chosen].mean():.1f})" for name, chosen in members.items()]
    heads += [f"{name}: {what}" for name in pooled for what in ("worst tenth / others", "grey was better")]
    yield f"| uncertainty | {' | '.join(heads)} |"
    yield "|" + " --- |" * (len(heads) + 1)
    for way, uncertainty in uncertainties.items():
        found = [rank_correlation(uncertainty[chosen], errors[chosen]) for chosen in members.values()]
        cells = [f"{rho.value:.2f} ({rho.low:.2f} to {rho.high:.2f})" for rho in found]
        for chosen in (members[name] for name in pooled):
            worst, others = tenths(uncertainty[chosen], errors[chosen])
            wrong = area_under_roc(uncertainty[chosen], errors[chosen] > grey[chosen])
            cells += [f"{worst:.1f} / {others:.1f}", f"{wrong:.2f}"]
        yield f"| {way} | {' | '.join(cells)} |"


@torch.inference_mode()
def main(
    historical_folder: Annotated[Path, typer.Option("--historical", help="true images and `provenance.csv`")],
    photos: Annotated[Path, typer.Option(help="Parquet photographs with the split `val`")],
    kept: Annotated[Path, typer.Option("--cache", help="a folder for the network's distributions: 1 GB")],
    model: Annotated[str, typer.Option(help="as for `colorize evaluate`")] = "default",
) -> None:
    """Prints a Markdown table."""
    images = [*historical(historical_folder), *modern(photos)]
    found = find_model(model)
    known = Distributions(found, images, kept)
    network = load_checkpoint(found.data).model.eval()
    assert isinstance(network, BinModel)  # or `Distributions` had refused it
    for view in (CANVAS, MIRRORED):
        known.prepare(view)
    rows = []
    for index, image in enumerate(images):
        seen = Doubted(known, network, image, index)
        rows.append([*seen.errors(), *(float(way(seen)) for way in WAYS.values())])
    errors, grey, *uncertainties = np.array(rows).T
    for line in table(dict(zip(WAYS, uncertainties, strict=True)), errors, grey, groups(images)):
        print(line, flush=True)


if __name__ == "__main__":
    typer.run(main)
