"""The chroma table matches the formula within a just noticeable difference, for every luma and color."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from colorize.imaging import compose
from colorize.imaging.chroma_table import MAX_AB, by_formula, chroma_table
from colorize.imaging.compose import chroma, chroma_planes

Float = NDArray[np.float32]
WIDTH = 4096


def colors(reach: float, seed: int = 0) -> Float:
    """`WIDTH` colors for each luma, evenly spread over a square."""
    return np.random.default_rng(seed).uniform(-reach, reach, (2, 256, WIDTH)).astype(np.float32)


def errors(luma: NDArray[np.uint8], ab: Float) -> NDArray[np.int64]:
    """The difference between table and formula in levels."""
    read, exact = chroma_table(chroma)(luma, ab), by_formula(chroma, luma, ab)
    return np.asarray(np.abs(np.stack(read).astype(int) - np.stack(exact)))


@pytest.mark.parametrize("reach", [5, 20, 40, MAX_AB])
def test_every_luma_and_color_is_within_three_levels(reach: float) -> None:
    luma = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (256, WIDTH)).copy()
    error = errors(luma, colors(reach))
    assert error.mean() < 0.1
    assert error.max() <= 3


def test_grey_stays_grey() -> None:
    luma = np.arange(256, dtype=np.uint8)[None]
    cb, cr = chroma_table(chroma)(luma, np.zeros((2, 1, 256), np.float32))
    assert np.all(cb == 128)
    assert np.all(cr == 128)


def test_very_wide_images_are_triaged() -> None:
    luma = np.random.default_rng(1).integers(0, 256, (1, 65535), np.uint8)
    ab = np.random.default_rng(2).uniform(-40, 40, (2, 1, 65535)).astype(np.float32)
    assert errors(luma, ab).max() <= 3


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket"])
@pytest.mark.parametrize("spread", [20.0, 60.0, 200.0])  # beyond MAX_AB the formula is used
def test_a_photograph_has_the_chroma_of_the_formula(name: str, spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    luma = np.asarray(Image.fromarray(getattr(data, name)()).convert("L"))
    ab = np.random.default_rng(3).uniform(-spread, spread, (2, 20, 30)).astype(np.float32)
    fast = np.stack(chroma_planes(luma, ab)).astype(int)
    monkeypatch.setattr(compose, "MAX_AB", 0)
    error = np.abs(fast - np.stack(chroma_planes(luma, ab)))
    assert error.mean() < 0.3
    assert error.max() <= 3
