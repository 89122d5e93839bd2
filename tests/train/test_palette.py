"""Palettes by k-means."""

from __future__ import annotations

import pytest
import torch

from colorize.train import palette


def test_k_means_finds_known_clusters_sorted_by_size() -> None:
    generator = torch.Generator().manual_seed(0)
    centers = torch.tensor([[0.1, 0.1, 0.1], [0.9, 0.2, 0.1], [0.2, 0.4, 0.9], [0.8, 0.9, 0.8]])
    counts = [400, 300, 200, 100]
    pixels = torch.cat([c.repeat(n, 1) for c, n in zip(centers, counts, strict=True)])
    pixels += 0.02 * torch.randn(pixels.shape, generator=generator)
    pixels = pixels[torch.randperm(len(pixels), generator=generator)]
    start = palette.spread_colors(pixels, 4, generator)
    found = palette.fit_palette(pixels.chunk(7), start, iterations=50)
    torch.testing.assert_close(found, centers, atol=0.01, rtol=0)


def test_cluster_sums_add_up_across_chunks() -> None:
    pixels, colors = torch.rand(1000, 3), torch.rand(4, 3)
    whole = palette.cluster_sums([pixels], colors)
    parts = [palette.cluster_sums([part], colors) for part in pixels.chunk(3)]
    for index in (0, 1):
        torch.testing.assert_close(whole[index], torch.stack([p[index] for p in parts]).sum(dim=0))


def test_a_color_without_pixels_is_kept() -> None:
    start = torch.tensor([[0.1, 0.1, 0.1], [0.9, 0.9, 0.9]])
    found = palette.fit_palette([torch.full((5, 3), 0.2)], start, iterations=5)
    torch.testing.assert_close(found, torch.tensor([[0.2] * 3, [0.9] * 3]))


def test_a_single_color_gives_a_palette() -> None:
    start = palette.spread_colors(torch.full((5, 3), 0.2), 4, torch.Generator().manual_seed(0))
    assert start.shape == (4, 3)


def test_a_fraction_of_the_pixels_is_sampled() -> None:
    rgb = torch.rand(4, 3, 96, 96)
    pixels = palette.sample_pixels(rgb, 0.4, torch.Generator().manual_seed(0))
    assert len(pixels) == pytest.approx(0.4 * 4 * 96 * 96, rel=0.03)
    everything = palette.sample_pixels(rgb, 1.0, torch.Generator())
    torch.testing.assert_close(everything[:2], rgb[0, :, 0, :2].T)
