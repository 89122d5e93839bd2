"""Color conversions against scikit-image, Pillow and known values."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import color as reference

from colorize.imaging import color


@pytest.fixture(scope="module")
def rgb() -> torch.Tensor:
    """Every 15th level of each channel, including both ends and dark colors: float64 (3, 18, 324)."""
    levels = torch.linspace(0, 1, 18, dtype=torch.float64)
    return torch.cartesian_prod(levels, levels, levels).T.reshape(3, 18, 324)


def channels_last(image: torch.Tensor) -> np.ndarray:
    return image.movedim(-3, -1).numpy()


def test_doctests() -> None:
    assert doctest.testmod(color).failed == 0


def test_lab_agrees_with_scikit_image(rgb: torch.Tensor) -> None:
    np.testing.assert_allclose(channels_last(color.rgb_to_lab(rgb)), reference.rgb2lab(channels_last(rgb)), atol=1e-4)


def test_rgb_from_lab_agrees_with_scikit_image() -> None:
    axes = torch.linspace(15, 100, 12), torch.linspace(-40, 40, 12), torch.linspace(-40, 40, 12)
    lab = torch.cartesian_prod(*axes).double().T.reshape(3, 12, 144)
    expected = reference.lab2rgb(channels_last(lab))
    np.testing.assert_allclose(channels_last(color.lab_to_rgb(lab)), expected, atol=1e-4)


def test_float32_keeps_the_precision(rgb: torch.Tensor) -> None:
    torch.testing.assert_close(color.rgb_to_lab(rgb.float()).double(), color.rgb_to_lab(rgb), atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 3, 5, 7), (2, 4, 3, 5, 7)])
def test_lab_round_trip_keeps_shape_and_values(shape: tuple[int, ...]) -> None:
    rgb = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(color.lab_to_rgb(color.rgb_to_lab(rgb)), rgb, atol=1e-4, rtol=0)


def test_ycbcr_round_trip(rgb: torch.Tensor) -> None:
    torch.testing.assert_close(color.ycbcr_to_rgb(color.rgb_to_ycbcr(rgb)), rgb)


def test_ycbcr_agrees_with_pillow(rgb: torch.Tensor) -> None:
    image = Image.fromarray(np.rint(channels_last(rgb) * 255).astype(np.uint8))
    expected = np.asarray(image.convert("YCbCr"), dtype=np.float64)
    ours = channels_last(color.rgb_to_ycbcr(rgb)) * 255 + (0, 128, 128)
    np.testing.assert_allclose(ours, expected, atol=1.01)  # Pillow rounds to whole levels


def test_luma_agrees_with_pillow(rgb: torch.Tensor) -> None:
    image = Image.fromarray(np.rint(channels_last(rgb) * 255).astype(np.uint8))
    expected = np.asarray(image.convert("L"), dtype=np.float64)
    np.testing.assert_allclose(color.luma(rgb)[0].numpy() * 255, expected, atol=1.01)


def test_lightness_of_grey_is_the_l_of_its_lab() -> None:
    grey = torch.linspace(0, 1, 256).reshape(1, 16, 16)
    lab = color.rgb_to_lab(grey.expand(3, -1, -1))
    torch.testing.assert_close(color.grey_to_lightness(grey), lab[:1], atol=1e-3, rtol=0)


def test_greys_have_no_chroma() -> None:
    grey = torch.linspace(0, 1, 256).reshape(1, 16, 16).expand(3, -1, -1)
    assert color.rgb_to_lab(grey)[1:].abs().max() < 0.02


def test_out_of_gamut_colors_are_clipped_by_default() -> None:
    vivid = torch.tensor([50.0, 120.0, 120.0]).reshape(3, 1, 1)
    assert color.lab_to_rgb(vivid).min() == 0
    assert color.lab_to_rgb(vivid, clip=False).min() < 0


@pytest.mark.parametrize(
    "function", [color.rgb_to_lab, color.lab_to_rgb, color.luma, color.grey_to_lightness, color.rgb_to_ycbcr]
)
@pytest.mark.parametrize("value", [0.0, 0.04045, 1.0])
def test_gradients_are_finite_at_the_ends(function: object, value: float) -> None:
    pixel = torch.full((3, 1, 1), value, requires_grad=True)
    assert callable(function)
    function(pixel).sum().backward()
    assert pixel.grad is not None
    assert pixel.grad.isfinite().all()
