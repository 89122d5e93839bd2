from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from colorize.imaging.color import rgb_to_lab
from colorize.imaging.compose import chroma_planes, compose, exact_rgb, solve_rgb
from colorize.imaging.formats import decode
from colorize.imaging.formats.decoded_image import Chroma, DecodedImage, Plane
from colorize.imaging.formats.formats import ImageInfo
from colorize.imaging.formats.metadata import Metadata
from colorize.imaging.formats.orientation import orient
from tests.images import LIMIT, saved

BITS = pytest.mark.parametrize("dtype", [np.uint8, np.uint16])


def grey_of(rgb: Plane) -> Plane:
    """The grey image of RGB: Pillow's own at 8 bits, the rounded formula in double precision at 16."""
    if rgb.dtype == np.uint8:
        return np.asarray(Image.fromarray(rgb).convert("L"))
    return np.asarray(np.rint(rgb @ np.array([0.299, 0.587, 0.114])), np.uint16)


def lab_ab(rgb: Plane) -> NDArray[np.float32]:
    unit = torch.from_numpy(rgb.astype(np.float32) / np.iinfo(rgb.dtype).max).permute(2, 0, 1)
    ab: NDArray[np.float32] = rgb_to_lab(unit)[1:].numpy()
    return ab


def random_ab(height: int, width: int, spread: float = 110.0) -> NDArray[np.float32]:
    return np.random.default_rng(7).uniform(-spread, spread, (2, height, width)).astype(np.float32)


def image(luma: Plane, format: str = "PNG", orientation: int = 1) -> DecodedImage:
    height, width = luma.shape
    info = ImageInfo(format, "L", width, height, luma.itemsize * 8, orientation, 1)
    return DecodedImage(info, luma, None, True, Metadata(), b"")


@BITS
@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1), (37, 53), (300, 500)])
def test_the_luma_of_every_pixel_is_kept(dtype: type[np.unsignedinteger], size: tuple[int, int]) -> None:
    luma = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, size, dtype, endpoint=True)
    rgb = exact_rgb(luma, random_ab(5, 4))
    assert rgb.dtype == dtype
    assert np.array_equal(grey_of(rgb), luma)


def test_every_8_bit_luma_with_every_chroma_of_a_fine_grid_solves_exactly() -> None:
    y, red, blue = np.meshgrid(np.arange(256), np.linspace(-1, 1, 101), np.linspace(-1, 1, 101), indexing="ij")
    luma = y.astype(np.uint8).reshape(256, -1)
    rgb = solve_rgb(luma, *in_gamut(luma, red.reshape(256, -1), blue.reshape(256, -1)))
    assert np.array_equal(grey_of(rgb), luma)


def test_16_bit_luma_solves_exactly_at_both_ends_and_between() -> None:
    ends = np.r_[0:300, 32000:32300, 65236:65536].astype(np.uint16)
    grid = np.linspace(-1, 1, 41)
    luma, red, blue = (a.reshape(len(ends), -1) for a in np.meshgrid(ends, grid, grid, indexing="ij"))
    rgb = solve_rgb(luma, *in_gamut(luma, red, blue))
    assert np.array_equal(grey_of(rgb), luma)


def in_gamut(
    luma: Plane, red: NDArray[np.floating], blue: NDArray[np.floating]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale offsets towards grey until R, G and B lie in [0, 1]."""
    y = luma / np.iinfo(luma.dtype).max
    green = -(0.299 * red + 0.114 * blue) / 0.587
    with np.errstate(divide="ignore", invalid="ignore"):
        limits = [np.where(d > 0, (1 - y) / d, np.where(d < 0, -y / d, 1)) for d in (red, green, blue)]
    scale = np.minimum(1, np.minimum.reduce(limits))
    return (red * scale).astype(np.float32), (blue * scale).astype(np.float32)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_a_photograph_is_reconstructed_from_its_luma_and_color(name: str) -> None:
    rgb = np.asarray(getattr(data, name)())
    error = np.abs(exact_rgb(grey_of(rgb), lab_ab(rgb)).astype(int) - rgb)
    assert np.percentile(error, 99) <= 1
    assert error.mean() < 0.3


@BITS
def test_moderate_colors_round_trip_within_a_level(dtype: type[np.unsignedinteger]) -> None:
    white = np.iinfo(dtype).max
    levels = (np.array([0.35, 0.45, 0.55, 0.65]) * white).astype(dtype)
    rgb = np.array(list(itertools.product(levels, repeat=3)), dtype).reshape(8, 8, 3)
    error = np.abs(exact_rgb(grey_of(rgb), lab_ab(rgb)).astype(int) - rgb)
    assert error.max() <= (1 if dtype is np.uint8 else 257)


@BITS
def test_zero_chroma_leaves_the_grey_image(dtype: type[np.unsignedinteger]) -> None:
    luma = np.linspace(0, np.iinfo(dtype).max, 4096).astype(dtype).reshape(64, 64)
    rgb = exact_rgb(luma, np.zeros((2, 3, 3), np.float32))
    assert np.abs(rgb.astype(int) - luma[..., None]).max() <= (0 if dtype is np.uint8 else 16)


@pytest.mark.parametrize("level", [0, 1, 254, 255])
def test_saturated_colors_cause_no_speckle_at_black_and_white(level: int) -> None:
    rgb = exact_rgb(np.full((64, 64), level, np.uint8), random_ab(64, 64))
    assert np.abs(rgb.astype(int) - level).max() <= 9  # at most what this luma allows blue, its lightest weight
    if level in (0, 255):
        assert np.array_equal(rgb, np.full_like(rgb, level))


def test_colors_out_of_gamut_keep_their_hue() -> None:
    luma = np.full((1, 1), 230, np.uint8)
    red, green, blue = exact_rgb(luma, np.array([[[90.0]], [[60.0]]], np.float32))[0, 0].astype(int)
    assert red == 255 > green > blue


def test_jpeg_chroma_has_half_the_resolution_rounded_up() -> None:
    chroma = chroma_planes(np.full((7, 12), 128, np.uint8), random_ab(3, 5, 20))
    assert chroma.cb.shape == chroma.cr.shape == (4, 6)
    assert chroma.cb.dtype == np.uint8


def test_jpeg_chroma_is_the_chroma_of_the_color() -> None:
    rgb = np.full((8, 8, 3), (170, 120, 90), np.uint8)
    chroma = chroma_planes(grey_of(rgb), lab_ab(rgb))
    _, cb, cr = Image.fromarray(rgb).convert("YCbCr").getpixel((0, 0))  # type: ignore[misc]
    assert abs(int(chroma.cb[0, 0]) - cb) <= 1
    assert abs(int(chroma.cr[0, 0]) - cr) <= 1


def test_strips_have_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    luma, ab = np.random.default_rng(1).integers(0, 256, (200, 64), np.uint8), random_ab(9, 7, 60)
    whole = exact_rgb(luma, ab)
    monkeypatch.setattr("colorize.imaging.compose._STRIP_PIXELS", 640)
    assert np.array_equal(exact_rgb(luma, ab), whole)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_color_is_mapped_to_the_stored_orientation(orientation: int) -> None:
    luma = np.full((40, 60), 128, np.uint8)
    stored = exact_rgb(luma, np.array(random_ab(4, 6, 40)))
    upright = np.ascontiguousarray(orient(random_ab(4, 6, 40), orientation))
    composed = compose(image(luma, orientation=orientation), upright.astype(np.float32))
    assert np.array_equal(composed, stored)


def test_half_precision_predictions_are_accepted() -> None:
    color = compose(image(np.full((9, 9), 90, np.uint8), "JPEG"), random_ab(2, 2, 30).astype(np.float16))
    assert isinstance(color, Chroma)


def test_a_prediction_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        compose(image(np.zeros((4, 4), np.uint8)), np.full((2, 2, 2), np.nan, np.float32))


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (37, 1), (2, 2), (3, 5), (300, 451)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_decoded_at_half_size_gets_the_full_chroma(size: tuple[int, int], mode: str) -> None:
    photograph = Image.fromarray(data.chelsea()).convert("L").resize(size[::-1]).convert(mode)
    encoded = saved(photograph, "JPEG", quality=90)
    ab = random_ab(20, 30, 20)
    halves = compose(decode(encoded, max_pixels=LIMIT, halved=True), ab)
    whole = compose(decode(encoded, max_pixels=LIMIT), ab)
    assert isinstance(halves, Chroma)
    assert isinstance(whole, Chroma)
    error = np.abs(np.stack(halves).astype(int) - np.stack(whole))
    assert error.mean() < 0.3
    assert error.max() <= 3


def test_an_rgb_coded_jpeg_keeps_its_luma_reencoded() -> None:
    encoded = saved(Image.fromarray(data.chelsea()), "JPEG", keep_rgb=True)
    image = decode(encoded, max_pixels=LIMIT, halved=True)
    assert not image.luma_exact
    assert image.luma.shape == (300, 451)
