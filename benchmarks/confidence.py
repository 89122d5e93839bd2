"""Does a network's confidence identify images with wrong colors? Uncertainty measures compared, by kind of image.

    python -m benchmarks.confidence --model default --historical historical/ --photos photos/ --cache cache/

The network runs once per view (see `distributions`). Each measure gives one number per image, larger if more
uncertain, which is compared with the image's mean CIEDE2000: Spearman's rank correlation with its 95 % interval, the
error of the most uncertain tenth and of the others, and the area under the ROC curve for detecting images that would
have been better left grey (0.5 is chance). Measures of one view cost little; "mirrored" runs the network twice.
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

SIDE = 128  # side in pixels of the square in which errors are computed
MIRRORED = View(CANVAS.size, mirrored=True)
OLD = ("Kodachromes", "Documerica", "Prokudin-Gorskii")
SHADOWS = 45.0  # L* below which possible errors shrink

Floats = npt.NDArray[np.float64]


class ImagePrediction:
    """An image and the network's prediction on the standard canvas."""

    def __init__(self, known: Distributions, network: BinModel, image: DecodedImage, index: int) -> None:
        self.known, self.network, self.index = known, network, index
        scaled = Image.fromarray(image.rgb).convert("L").resize((CANVAS.size, CANVAS.size), Image.Resampling.BICUBIC)
        self.L = grey_to_lightness(torch.from_numpy(np.asarray(scaled, np.float32) / 255))[None, None]
        self.rgb = np.asarray(Image.fromarray(image.rgb).resize((SIDE, SIDE), Image.Resampling.BOX), np.float32) / 255

    def logits(self, view: View = CANVAS) -> Tensor:
        """Logits `(1, Q, h, w)`."""
        return torch.from_numpy(self.known.of(self.index, view))[None]

    def color_from(self, view: View = CANVAS) -> Tensor:
        """The color as used, `(2, h, w)`."""
        return self.network.color_from(self.logits(view), self.L)[0]

    @cached_property
    def ab(self) -> Tensor:
        """The color as used, at the resolution of the canvas."""
        return self.color_from()

    @cached_property
    def p(self) -> Tensor:
        """Bin probabilities, `(Q, h, w)`."""
        return self.logits()[0].softmax(dim=0)

    @cached_property
    def chroma(self) -> Tensor:
        """Chroma of the color as used, `(h, w)`."""
        chroma: Tensor = torch.linalg.vector_norm(self.ab, dim=0)
        return chroma

    @cached_property
    def entropy(self) -> Tensor:
        """Normalized entropy of each distribution, 0 to 1, `(h, w)`."""
        return entropy(self.logits())[0]

    @cached_property
    def light(self) -> Tensor:
        """L* of each cell, `(h, w)`."""
        return torch.nn.functional.adaptive_avg_pool2d(self.L, (self.ab.shape[1], self.ab.shape[2]))[0, 0]

    @cached_property
    def distance(self) -> Tensor:
        """Distance of the color as used from each bin, Lab units, `(Q, h, w)`."""
        distance: Tensor = torch.linalg.vector_norm(self.network.bins_Q2[:, :, None, None] - self.ab, dim=1)
        return distance

    @cached_property
    def expected(self) -> Tensor:
        """The expected distance under the distribution, `(h, w)`."""
        return (self.p * self.distance).sum(dim=0)

    @cached_property
    def difference(self) -> Tensor:
        """The expected CIEDE2000 under the distribution, from the bin nearest to the color as used, `(h, w)`."""
        bins = self.network.bins_Q2
        between = ciede2000(at_one_lightness(bins.T[:, :, None]), at_one_lightness(bins.T[:, None]))[0]
        return (self.p * between[self.distance.argmin(dim=0)].permute(2, 0, 1)).sum(dim=0)

    def errors(self) -> tuple[float, float]:
        """The mean CIEDE2000 of the colored image, and of the grey image."""
        luma = np.asarray(np.tensordot(self.rgb, np.array(LUMA_WEIGHTS, np.float32), 1), np.float32)
        red, blue = chroma_offsets(luma, resized(self.ab.numpy(), SIDE))
        green = -(LUMA_WEIGHTS[0] * red + LUMA_WEIGHTS[2] * blue) / LUMA_WEIGHTS[1]
        true = _lab(self.rgb.transpose(2, 0, 1))
        ours, grey = _lab(luma + np.stack((red, green, blue))), _lab(np.stack([luma] * 3))
        return tuple(ciede2000(each, true).mean().item() for each in (ours, grey))  # type: ignore[return-value]


def at_one_lightness(ab_2HW: Tensor) -> Tensor:
    """Lab `(1, 3, H, W)` at a constant lightness, which does not affect the CIEDE2000 of two such colors."""
    return torch.cat((torch.full_like(ab_2HW[:1], 60.0), ab_2HW))[None]


def _lab(rgb: npt.NDArray[Any]) -> Tensor:
    return rgb_to_lab(torch.from_numpy(np.ascontiguousarray(rgb, np.float32)).clamp(0, 1)[None])


def by_chroma(values: Tensor, seen: ImagePrediction) -> Tensor:
    """The mean, weighted by chroma."""
    return (values * seen.chroma).sum() / seen.chroma.sum()


def spread(seen: ImagePrediction) -> Tensor:
    """Standard deviation of each distribution around its mean, Lab units."""
    bins = seen.network.bins_Q2
    mean = torch.einsum("qhw,qc->chw", seen.p, bins)
    return (torch.einsum("qhw,q->hw", seen.p, bins.square().sum(dim=1)) - mean.square().sum(dim=0)).clamp(min=0).sqrt()


def root_mean_square(seen: ImagePrediction) -> Tensor:
    """The root mean square distance at each cell."""
    return (seen.p * seen.distance.square()).sum(dim=0).sqrt()


def mirrored(seen: ImagePrediction) -> Tensor:
    """The distance to the colors of the mirrored image, Lab units."""
    distance: Tensor = torch.linalg.vector_norm(seen.ab - seen.color_from(MIRRORED), dim=0)
    return distance.mean()


def shaded(seen: ImagePrediction) -> Tensor:
    """A factor that shrinks in shadows as chroma does."""
    return fading(seen.light, SHADOWS)


Way = Callable[[ImagePrediction], Tensor]
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
    """Ranks, starting at 0."""
    return np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(np.float64)


def rank_correlation(uncertainty: Floats, error: Floats) -> Interval:
    """Spearman's rank correlation with its bootstrap interval; images are resampled, their ranks are not recomputed."""
    x, y = ranks(uncertainty), ranks(error)

    def correlation(counts: Floats) -> Floats:
        n = counts.sum(axis=1)
        mean = {name: counts @ values / n for name, values in (("x", x), ("y", y), ("xy", x * y))}
        spreads = [counts @ (values**2) / n - (counts @ values / n) ** 2 for values in (x, y)]
        product = np.maximum(spreads[0] * spreads[1], 1e-12)  # 0 if a single image was drawn throughout
        return np.asarray((mean["xy"] - mean["x"] * mean["y"]) / np.sqrt(product))

    return bootstrap({"rho": correlation}, len(x))["rho"]


def tenths(uncertainty: Floats, error: Floats) -> tuple[float, float]:
    """The mean error of the most uncertain tenth, and of the others."""
    order, tenth = np.argsort(-uncertainty, kind="stable"), max(1, len(uncertainty) // 10)
    return float(error[order[:tenth]].mean()), float(error[order[tenth:]].mean())


def area_under_roc(uncertainty: Floats, wrong: npt.NDArray[np.bool_]) -> float:
    """The probability that a wrong image is more uncertain than a right one: Mann and Whitney's U."""
    count = int(wrong.sum())
    pairs = count * (len(uncertainty) - count)
    return float((ranks(uncertainty)[wrong].sum() - count * (count - 1) / 2) / pairs) if pairs else float("nan")


def groups(images: Sequence[DecodedImage]) -> dict[str, npt.NDArray[np.bool_]]:
    """Masks of the images of each kind, of historical ones, and of modern ones."""
    kinds = np.array([image.kind for image in images])
    old = np.isin(kinds, OLD)
    members = {kind: kinds == kind for kind in dict.fromkeys(kinds.tolist())} | {"historical": old, "modern": ~old}
    return {name: chosen for name, chosen in members.items() if chosen.any()}


def table(
    uncertainties: Mapping[str, Floats], errors: Floats, grey: Floats, members: Mapping[str, npt.NDArray[np.bool_]]
) -> Iterator[str]:
    """Markdown with a row per measure; the pooled groups, the last two, also have tenths and areas."""
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
    historical_folder: Annotated[Path, typer.Option("--historical", help="originals and `provenance.csv`")],
    photos: Annotated[Path, typer.Option(help="Parquet photographs with the split `val`")],
    kept: Annotated[Path, typer.Option("--cache", help="folder for the network's distributions, 1 GB")],
    model: Annotated[str, typer.Option(help="as for `colorize evaluate`")] = "default",
) -> None:
    """Prints a Markdown table."""
    images = [*historical(historical_folder), *modern(photos)]
    found = find_model(model)
    known = Distributions(found, images, kept)
    network = load_checkpoint(found.data).model.eval()
    assert isinstance(network, BinModel)  # or `Distributions` would have refused it
    for view in (CANVAS, MIRRORED):
        known.prepare(view)
    rows = []
    for index, image in enumerate(images):
        seen = ImagePrediction(known, network, image, index)
        rows.append([*seen.errors(), *(float(way(seen)) for way in WAYS.values())])
    errors, grey, *uncertainties = np.array(rows).T
    for line in table(dict(zip(WAYS, uncertainties, strict=True)), errors, grey, groups(images)):
        print(line, flush=True)


if __name__ == "__main__":
    typer.run(main)
