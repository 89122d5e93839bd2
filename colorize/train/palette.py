"""Color palettes: k-means by Lloyd's algorithm over the batches of all workers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from colorize.train.workers import sum_over_workers

_SEED_PIXELS = 10_000  # for the initial colors
_SETTLED = 1e-4  # convergence threshold, a 40th of an 8-bit step


def sample_pixels(rgb_B3HW: Tensor, fraction: float, generator: torch.Generator) -> Tensor:
    """A random sample of about `fraction` of the pixels: `(N, 3)`."""
    pixels_N3 = rgb_B3HW.permute(0, 2, 3, 1).reshape(-1, 3)
    return pixels_N3[torch.rand(len(pixels_N3), generator=generator) < fraction]


def fit_palette(chunks: Sequence[Tensor], start_K3: Tensor, iterations: int) -> Tensor:
    """Lloyd's algorithm: colors `(K, 3)`, the most frequent first.

    Args:
        chunks: pixels `(N, 3)` of this worker.
        start_K3: initial colors, equal on all workers; see `spread_colors`.
        iterations: at most.
    """
    palette = start_K3
    for _ in range(iterations):
        sums, counts = cluster_sums(chunks, palette)
        moved = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], palette)
        done = (moved - palette).abs().max() <= _SETTLED
        palette = moved
        if done:
            break
    _, counts = cluster_sums(chunks, palette)
    return palette[counts.argsort(descending=True)]


def cluster_sums(chunks: Sequence[Tensor], palette_K3: Tensor) -> tuple[Tensor, Tensor]:
    """Sum `(K, 3)` and number `(K,)` of the pixels nearest to each color, over all workers."""
    sums_K4 = palette_K3.new_zeros(len(palette_K3), 4, dtype=torch.float64)
    for chunk in chunks:
        nearest = torch.cdist(chunk, palette_K3).argmin(dim=1)
        sums_K4.index_add_(0, nearest, torch.cat((chunk, torch.ones_like(chunk[:, :1])), dim=1).double())
    total = sum_over_workers(sums_K4).float()
    return total[:, :3], total[:, 3]


def spread_colors(pixels_N3: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Initial colors `(count, 3)` by k-means++ (Arthur and Vassilvitskii, 2007)."""
    pool = pixels_N3[torch.randperm(len(pixels_N3), generator=generator)[:_SEED_PIXELS]]
    chosen = pool[:1]
    while len(chosen) < count:
        distance = torch.cdist(pool, chosen).amin(dim=1).square()
        distance = distance if distance.any() else torch.ones_like(distance)  # fewer than `count` colors
        chosen = torch.cat((chosen, pool[torch.multinomial(distance, 1, generator=generator)]))
    return chosen
