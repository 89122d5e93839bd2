"""The Python API: an image goes in, the same image comes out in color."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import colorize
from colorize.errors import UsageError

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def model() -> colorize.Colorizer:
    return colorize.load("default", device="cpu", size=64)


def test_a_pillow_image_is_colored_with_its_luma(model: colorize.Colorizer, astronaut: Image.Image) -> None:
    grey = astronaut.convert("L")
    colored = model(grey)
    assert (colored.mode, colored.size) == ("RGB", grey.size)
    assert np.array_equal(np.asarray(colored.convert("L")), np.asarray(grey))
    assert np.ptp(np.asarray(colored).astype(int), axis=2).max() > 20


def test_a_color_image_is_recolored(model: colorize.Colorizer, astronaut: Image.Image) -> None:
    assert np.array_equal(np.asarray(model(astronaut)), np.asarray(model(astronaut.convert("L"))))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_an_array_is_returned_as_an_array_of_its_type(
    model: colorize.Colorizer, astronaut: Image.Image, kind: type[np.uint8 | np.uint16], channels: int | None
) -> None:
    grey = np.asarray(astronaut.convert("L")).astype(kind) * (257 if kind is np.uint16 else 1)
    image = grey if channels is None else np.dstack([grey] * channels)
    colored = model(image)
    assert colored.dtype == kind
    assert colored.shape == (*grey.shape, 4 if channels == 4 else 3)
    luma = np.rint(colored[..., :3].astype(np.float64) @ (0.299, 0.587, 0.114))
    assert np.abs(luma - grey).max() <= 1
    if channels == 4:
        assert np.array_equal(colored[..., 3], grey)


def test_alpha_and_orientation_are_kept(model: colorize.Colorizer, astronaut: Image.Image) -> None:
    seen = astronaut.crop((0, 0, 300, 200)).convert("RGBA")
    seen.putalpha(seen.convert("L"))
    assert np.array_equal(np.asarray(model(seen).getchannel("A")), np.asarray(seen.getchannel("A")))
    turned = astronaut.crop((0, 0, 300, 200))
    turned.getexif()[0x0112] = 6
    assert model(turned).size == (200, 300)


def test_a_batch_is_colored_like_its_images(model: colorize.Colorizer, astronaut: Image.Image) -> None:
    images = [astronaut, astronaut.crop((0, 0, 512, 200)), astronaut.resize((100, 130))]
    for together, alone in zip(model.batch(images), map(model, images), strict=True):
        assert np.abs(np.asarray(together).astype(int) - np.asarray(alone)).max() <= 8  # batching changes last bits


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4), np.uint8)])
def test_other_arrays_are_refused(model: colorize.Colorizer, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"pass"):
        model(image)


def test_settings_are_checked() -> None:
    with pytest.raises(UsageError, match=r"unknown setting 'saturaton' \(did you mean 'saturation'"):
        colorize.load("default", saturaton=2)
    with pytest.raises(UsageError, match="size=7"):
        colorize.load("default", size=7)
    with pytest.raises(UsageError, match="unknown model"):
        colorize.load("defualt")


def test_importing_it_imports_nothing_heavy() -> None:
    listing = "import sys, colorize; print(sorted(m for m in ('torch', 'ray', 'numpy', 'PIL') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
