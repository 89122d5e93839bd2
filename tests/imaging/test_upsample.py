"""Upsampled color follows luminance edges, stays within the prediction, and has no seams between strips."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from benchmarks.color_upsampling import Scene, bilinear, ours, psnr, reduced, scene
from colorize.imaging.upsample import guided_color

Float = NDArray[np.float32]


def enlarged(ab: Float, luma: NDArray[np.unsignedinteger]) -> Float:
    return guided_color(ab, luma).rows(
        slice(0, luma.shape[0]), luma.astype(np.float32) / np.float32(np.iinfo(luma.dtype).max)
    )


def two_halves(width: int = 90) -> tuple[NDArray[np.uint8], Float]:
    """Dark blue on the left, light red on the right, with the edge inside a grid cell."""
    left = np.arange(width) < width // 2
    luma = np.broadcast_to(np.where(left, 60, 200).astype(np.uint8), (64, width)).copy()
    ab = np.stack([np.where(left, -20.0, 50.0), np.where(left, -40.0, 20.0)]).astype(np.float32)
    return luma, np.broadcast_to(ab[:, None], (2, 64, width)).copy()


def test_color_does_not_bleed_across_a_luminance_edge() -> None:
    luma, ab = two_halves()
    low = reduced(ab, (7, 8))
    assert np.abs(enlarged(low, luma) - ab).mean() < 0.5 * np.abs(bilinear(low, luma) - ab).mean()


def test_the_average_of_each_cell_is_nearly_the_prediction() -> None:
    image = scene(data.coffee())
    low = reduced(image.ab, image.grid(32))
    back = [reduced(method(low, image.luma), low.shape[1:]) - low for method in (ours, bilinear)]
    assert np.abs(back[0]).mean() < 0.5 * np.abs(back[1]).mean()


def test_uniform_color_stays_uniform_at_any_luminance() -> None:
    luma = np.random.default_rng(1).integers(0, 256, (70, 50), np.uint8)
    low = np.broadcast_to(np.array([[[30.0]], [[-12.0]]], np.float32), (2, 6, 5)).copy()
    assert np.allclose(enlarged(low, luma), low[:, :1, :1], atol=1e-3)


def test_upsampling_stays_within_the_predicted_range() -> None:
    luma = np.random.default_rng(2).integers(0, 256, (120, 160), np.uint8)
    low = np.random.default_rng(3).uniform(-50, 50, (2, 12, 16)).astype(np.float32)
    color = enlarged(low, luma)
    spread = low.max() - low.min()
    assert low.min() - spread / 2 < color.min()
    assert color.max() < low.max() + spread / 2


def test_a_strip_equals_the_strip_of_the_whole() -> None:
    luma = np.random.default_rng(4).integers(0, 65536, (101, 43), np.uint16)
    unit = luma.astype(np.float32) / np.float32(65535)
    color = guided_color(np.random.default_rng(5).uniform(-90, 90, (2, 11, 6)).astype(np.float32), luma)
    whole = color.rows(slice(0, 101), unit)
    for rows in (slice(0, 1), slice(37, 61), slice(100, 101)):
        assert np.allclose(color.rows(rows, unit[rows]), whole[:, rows], atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (3, 5), (64, 64)])
def test_images_smaller_than_the_prediction_are_supported(size: tuple[int, int]) -> None:
    color = enlarged(np.full((2, 64, 64), 17.0, np.float32), np.full(size, 99, np.uint8))
    assert color.shape == (2, *size)
    assert np.allclose(color, 17)


def test_16_bits_guide_as_8_do() -> None:
    luma = np.asarray(Image.fromarray(data.coffee()).convert("L"))
    low = np.random.default_rng(6).uniform(-40, 40, (2, 20, 30)).astype(np.float32)
    assert np.abs(enlarged(low, luma) - enlarged(low, luma.astype(np.uint16) * 257)).mean() < 0.1


@pytest.mark.parametrize("cells", [32, 64])
@pytest.mark.parametrize("photograph", [data.astronaut, data.coffee, data.chelsea])
def test_it_beats_bilinear_on_photographs_overall_and_near_edges(
    photograph: Callable[[], NDArray[np.uint8]], cells: int
) -> None:
    image: Scene = scene(photograph())
    low = reduced(image.ab, image.grid(cells))
    better, worse = ours(low, image.luma) - image.ab, bilinear(low, image.luma) - image.ab
    assert psnr(better) > psnr(worse) + 0.3
    assert psnr(better[:, image.edges]) > psnr(worse[:, image.edges]) + 0.3
