"""Decodings of a distribution over bins to one color: the candidates of `operating_point`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from benchmarks.distributions import Distributions, View
from colorize.models.unet import EVEN, fading

Float = npt.NDArray[np.float32]
CANVAS = View(192)


@dataclass(frozen=True)
class GreyInput:
    """An image and the network's prediction for it."""

    known: Distributions
    index: int
    lightness: Float  # L* of its pixels, at any size

    def log_p(self, view: View = CANVAS) -> Float:
        """`(Q, h, w)`"""
        return self.known.of(self.index, view)

    def mean(self, p_Qhw: Float) -> Float:
        """The mean color `(2, h, w)` of a distribution."""
        return np.asarray(np.einsum("qhw,qc->chw", p_Qhw, self.known.bins_Q2), np.float32)

    def lightness_of(self, ab_2hw: Float) -> Float:
        """L* of each cell of a grid."""
        return np.asarray(resized(self.lightness[None], ab_2hw.shape[1])[0])


Decode = Callable[[GreyInput], Float]  # to ab (2, h, w), Lab units


@dataclass(frozen=True)
class Way:
    """A decoding and its views; the colors of several views are averaged."""

    decode: Callable[[GreyInput, View], Float]
    views: tuple[View, ...] = (CANVAS,)

    def __call__(self, seen: GreyInput) -> Float:
        colors = [self.decode(seen, view) for view in self.views]
        side = max(color.shape[1] for color in colors)
        return np.asarray(np.mean([resized(color, side) for color in colors], axis=0), np.float32)


def annealed(seen: GreyInput, view: View, temperature: float = 0.85) -> Float:
    """The annealed mean of the distribution."""
    return seen.mean(_softmax(seen.log_p(view) / np.float32(temperature)))


def undone(seen: GreyInput, view: View, part: float, log_weights: Callable[[], Float]) -> Float:
    """The annealed mean with part of the class rebalancing undone."""
    log_p = seen.log_p(view) - part * log_weights()[:, None, None]
    return seen.mean(_softmax(np.asarray(log_p / 0.85, np.float32)))


def in_shadows(seen: GreyInput, view: View, decode: Callable[[GreyInput, View], Float], below: float = 45.0) -> Float:
    """Another decoding's color, faded with lightness below this L*."""
    color = decode(seen, view)
    return np.asarray(color * fading(torch.from_numpy(seen.lightness_of(color)), below).numpy())


def by_entropy(seen: GreyInput, view: View, power: float, temperature: float = 0.85) -> Float:
    """More color where the distribution is broad (power > 0) or narrow (power < 0)."""
    log_p = seen.log_p(view)
    entropy = -(np.exp(log_p) * log_p).sum(axis=0) / np.log(np.float32(len(log_p)))
    return np.asarray(annealed(seen, view, temperature) * np.exp(power * (entropy - EVEN)), np.float32)


def by_concentration(seen: GreyInput, view: View, power: float) -> Float:
    """Scales the image by a power of its concentration: RMS chroma of the means over that of the distributions."""
    p = _softmax(seen.log_p(view))
    color, square = seen.mean(p), np.einsum("qhw,q->hw", p, (seen.known.bins_Q2**2).sum(axis=1))
    concentration = float((color**2).sum(axis=0).mean() / square.mean())
    return np.asarray(color * concentration ** (power / 2), np.float32)


def by_chroma(seen: GreyInput, view: View, power: float) -> Float:
    """More color where chroma is high (power > 0) or low."""
    color = annealed(seen, view)
    return np.asarray(color * ((np.hypot(*color) + 2) / 15) ** power, np.float32)


def limited(seen: GreyInput, view: View, times: float = 1.5, ordinary: float = 20.0) -> Float:
    """Chroma softly compressed above an image-dependent limit: a multiple of its median, plus a constant."""
    color = annealed(seen, view)
    chroma = np.hypot(*color) + np.float32(1e-6)
    limit = np.float32(times * np.median(chroma) + ordinary)
    return np.asarray(color * (limit * np.tanh(chroma / limit) / chroma), np.float32)


def smoothed(seen: GreyInput, view: View, cells: int) -> Float:
    """Averaged over so many cells in each direction with similar lightness: a bilateral filter guided by luminance."""
    color = annealed(seen, view)
    light = seen.lightness_of(color)
    total, weight = np.zeros_like(color), np.zeros_like(light)
    for down in range(-cells, cells + 1):
        for right in range(-cells, cells + 1):
            near = np.roll(light, (down, right), (0, 1))
            alike = np.exp(-(((near - light) / 10) ** 2))
            total += alike * np.roll(color, (down, right), (1, 2))
            weight += alike
    return np.asarray(total / weight)


def centered(seen: GreyInput, view: View, part: float) -> Float:
    """With part of the image's mean color subtracted."""
    color = annealed(seen, view)
    return np.asarray(color - part * color.mean(axis=(1, 2), keepdims=True), np.float32)


def candidates(log_weights: Callable[[], Float]) -> Mapping[str, Way]:
    """All decodings by name; `log_weights` is only called by those that undo the rebalancing (`training.losses`)."""
    ways = {f"temperature {t}": Way(partial(annealed, temperature=t)) for t in (0.3, 0.38, 0.5, 0.7, 0.85, 1.0, 1.5)}
    ways |= {
        f"rebalancing undone, {part:g}": Way(partial(undone, part=part, log_weights=log_weights))
        for part in (0.5, 1.0, -0.5)
    }
    ways |= {f"canvas {size}": Way(annealed, (View(size),)) for size in (160, 224, 256)}
    ways |= {"mirrored mean": Way(annealed, (CANVAS, View(192, True)))}
    ways |= {"canvas 160 and 256": Way(annealed, (View(160), View(256)))}
    ways |= {f"by entropy {power:g}": Way(partial(by_entropy, power=power)) for power in (-1, 1, 2, 3)}
    ways |= {f"by concentration {power:g}": Way(partial(by_concentration, power=power)) for power in (-0.5, 0.5)}
    ways |= {f"by chroma {power:g}": Way(partial(by_chroma, power=power)) for power in (-0.2, 0.2)}
    ways |= {"limited chroma": Way(limited), "smoothed": Way(partial(smoothed, cells=2))}
    ways |= {"centered 0.3": Way(partial(centered, part=0.3))}
    return ways | {f"{name}, shadows": Way(partial(in_shadows, decode=w.decode), w.views) for name, w in ways.items()}


def resized(planes: Float, side: int) -> Float:
    """Square planes `(n, h, h)` at another size: area means, or bicubic."""
    if planes.shape[1] == side:
        return planes
    how = Image.Resampling.BICUBIC if planes.shape[1] < side else Image.Resampling.BOX
    return np.stack([np.asarray(Image.fromarray(np.asarray(p, np.float32)).resize((side, side), how)) for p in planes])


def _softmax(logits_Qhw: Float) -> Float:
    p = np.exp(logits_Qhw - logits_Qhw.max(axis=0))
    return np.asarray(p / p.sum(axis=0), np.float32)
