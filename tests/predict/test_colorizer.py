"""The colorizer: preserved aspect, shared canvases, colors in order and aligned with the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from colorize.imaging.canvas import CELL, Canvases, canvas_for, canvases, fit
from colorize.imaging.color import grey_to_lightness
from colorize.predict.torch_network import torch_colorizer


class Echo(nn.Module):
    """A network whose a is the mean lightness of each 4 x 4 cell and whose b is the batch size."""

    stride = 32

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[int, ...]] = []

    def forward(self, L_B1HW: Tensor) -> Tensor:
        self.batches.append(tuple(L_B1HW.shape))
        a = nn.functional.avg_pool2d(L_B1HW, 4)
        return torch.cat((a, torch.full_like(a, len(L_B1HW))), dim=1)


def grey(height: int, width: int, value: int = 128) -> np.ndarray:
    return np.full((height, width), value, np.uint8)


@pytest.mark.parametrize("size", [64, 128, 256, 512])
def test_canvases_have_similar_area_and_valid_sides(size: int) -> None:
    for height, width in canvases(size, 32):
        assert height % 32 == width % 32 == 0
        assert 0.7 * size**2 <= height * width <= 1.3 * size**2
        assert (width, height) in canvases(size, 32)


@pytest.mark.parametrize(
    ("shape", "canvas"),
    [((100, 100), (256, 256)), ((1200, 1600), (224, 288)), ((1600, 1200), (288, 224)), ((1, 1), (256, 256))],
)
def test_an_image_gets_the_canvas_that_it_fills_best(shape: tuple[int, int], canvas: tuple[int, int]) -> None:
    assert canvas_for(*shape, 256, 32) == canvas


@pytest.mark.parametrize(
    "shape", [(300, 400), (399, 401), (64, 1000), (1000, 64), (1, 5000), (5000, 1), (1, 1), (33, 31)]
)
def test_fitting_keeps_the_aspect_within_a_cell(shape: tuple[int, int]) -> None:
    canvas = canvas_for(*shape, 256, 32)
    fitted = fit(grey(*shape), canvas).shape

    assert all(f <= c for f, c in zip(fitted, canvas, strict=True))
    assert all(f % CELL == 0 for f in fitted)
    scale = min(canvas[0] / shape[0], canvas[1] / shape[1])
    for side, got in zip(shape, fitted, strict=True):
        assert abs(got - side * scale) <= CELL / 2 or got == CELL


def test_images_of_one_shape_share_batches() -> None:
    network = Echo()
    shapes = [(300, 400), (400, 300), (300, 400), (300, 400), (400, 300), (300, 400), (300, 400)]
    torch_colorizer(network, size=128, batch_size=4, precision="float32")([grey(*shape) for shape in shapes])

    assert sorted(shape[0] for shape in network.batches) == [1, 2, 4]


def test_colors_are_in_the_order_of_the_images() -> None:
    values = [10, 200, 90, 40, 250, 120, 60]
    images = [grey(60 + 90 * (i % 3), 100, value) for i, value in enumerate(values)]
    colors = torch_colorizer(Echo(), size=64, batch_size=2, precision="float32")(images)

    expected = grey_to_lightness(torch.tensor(values) / 255)
    assert [float(ab[0].mean()) for ab in colors] == pytest.approx(expected.tolist(), abs=0.05)


@pytest.mark.parametrize("shape", [(100, 100), (90, 160), (160, 90), (20, 400)])
def test_colors_cover_the_image_without_the_padding(shape: tuple[int, int]) -> None:
    """An image that is bright in its right and lower half gives colors that are, too, up to the edge."""
    image = grey(*shape, 0)
    image[:, shape[1] // 2 :] = 255
    (ab,) = torch_colorizer(Echo(), size=128, precision="float32")([image])
    height, width = ab.shape[1:]

    assert ab.dtype == np.float16
    assert width / height == pytest.approx(shape[1] / shape[0], rel=0.2)
    assert np.allclose(ab[0, :, -1], 100, atol=0.5)
    assert np.allclose(ab[0, :, : width // 2 - 1], 0, atol=3)


def test_no_images_give_no_colors() -> None:
    assert torch_colorizer(Echo(), precision="float32")([]) == []


@pytest.mark.parametrize(("images", "sizes"), [(64, [64]), (150, [64, 64, 16, 4, 2]), (22, [16, 4, 2]), (1, [1])])
def test_batches_have_few_distinct_sizes(images: int, sizes: list[int]) -> None:
    network = Echo()
    torch_colorizer(network, size=64, batch_size=64, precision="float32")([grey(64, 64)] * images)
    assert [shape[0] for shape in network.batches] == sizes


@pytest.mark.parametrize("shape", [(300, 400), (333, 777), (90, 1000), (64, 64)])
def test_an_image_fitted_beforehand_gets_the_same_colors(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    colorizer = torch_colorizer(Echo(), size=128, precision="float32")
    (own,), (fitted,) = colorizer([image]), colorizer([Canvases(128, 32).fitted(image)])
    assert np.array_equal(own, fitted)
