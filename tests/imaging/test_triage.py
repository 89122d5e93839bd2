"""Triage: color, grey, grey stored as RGB, toned, blank, a page of text, a color negative."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from skimage import data

from benchmarks.frames import THINGS, TONES
from colorize.imaging.formats import decode_small
from colorize.imaging.formats.pillow_reader import chroma_rounding
from colorize.imaging.tone import ChromaRounding, toning
from colorize.imaging.triage import COLOR as COLORED
from colorize.imaging.triage import close_strokes
from tests.images import LIMIT, saved

ARCHIVE = Path(__file__).parents[3] / "shared/data/archive"
COLOR = ("astronaut", "coffee", "chelsea", "rocket")
GREY = ("camera", "coins", "moon", "brick", "clock")


def kind(image: NDArray[np.uint8] | Image.Image, quality: int = 85) -> str:
    pil_image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    return decode_small(saved(pil_image, "JPEG", quality=quality), 65536, max_pixels=LIMIT).kind


def toned(name: str, cast: float = 0) -> Image.Image:
    """Sepia, fading to another tint from left to right by `cast` levels."""
    grey = np.asarray(Image.fromarray(getattr(data, name)()).convert("L"), np.float32)[..., None] / 255
    dark, light = np.array([40, 20, 5]), np.array([255, 240, 205])
    fade = np.linspace(-cast, cast, grey.shape[1])[None, :, None] * np.array([1, 0, -1])
    return Image.fromarray(np.clip(dark + (light - dark) * grey + fade, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("name", COLOR)
def test_color_photographs_are_color(name: str) -> None:
    assert kind(getattr(data, name)()) == "color"


@pytest.mark.parametrize("name", GREY)
def test_grey_files_are_grey(name: str) -> None:
    assert kind(Image.fromarray(getattr(data, name)()).convert("L")) == "grey"


@pytest.mark.parametrize("name", GREY)
@pytest.mark.parametrize("quality", [30, 90])
def test_grey_stored_as_rgb_is_not_color_at_any_compression(name: str, quality: int) -> None:
    assert kind(Image.fromarray(getattr(data, name)()).convert("RGB"), quality) == "grey_as_rgb"


@pytest.mark.parametrize("name", COLOR)
def test_unevenly_faded_sepia_is_toned(name: str) -> None:
    assert kind(toned(name)) == "toned"
    assert kind(toned(name, cast=12)) == "toned"


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("tone", TONES)
def test_a_colored_object_in_the_frame_is_not_a_color_photograph(tone: str, thing: str) -> None:
    for number, name in enumerate((*GREY, *COLOR)):
        random = np.random.default_rng(number)
        photograph = Image.fromarray(getattr(data, name)()).convert("RGB")
        frame = THINGS[thing](TONES[tone](photograph, random), random)
        assert kind(frame, int(random.integers(60, 96))) in ("grey_as_rgb", "toned"), name


BROWN, BLUE = (np.array(tint, np.float32) for tint in ((8, 0, -12), (-8, 0, 12)))
FINE = ChromaRounding(0.25, 1)


def spotted(size: int, share: float, tints: tuple[np.ndarray, ...]) -> float:
    """The color beyond its tone of a grey image of 128 pixels with tinted squares."""
    random = np.random.default_rng(0)
    grey = np.asarray(Image.fromarray(data.camera()).resize((128, 128)), np.float32)[..., None]
    cells = 128 // size
    tint = np.stack(tints)[random.integers(len(tints), size=(cells, cells))]
    chosen = np.where((random.random((cells, cells)) < share)[..., None], tint, 0)
    return toning(np.asarray(grey + np.kron(chosen, np.ones((size, size, 1))), np.float32), 16, FINE).colorfulness


def test_faint_spots_of_one_hue_are_stains_and_of_two_are_color() -> None:
    assert spotted(8, 0.26, (BROWN,)) < COLORED
    assert spotted(32, 0.7, (BROWN, BLUE)) > COLORED


def test_isolated_colored_pixels_are_noise() -> None:
    tints = BROWN / 3, BLUE / 3
    assert spotted(4, 0.7, tints) < COLORED < spotted(32, 0.7, tints)


@pytest.mark.parametrize("quality", [40, 55, 70])
def test_quantization_of_a_small_coarse_jpeg_is_not_color(quality: int) -> None:
    crops = [
        toned(name).crop((left, 40, left + 200, 240)).resize((128, 128)) for name in COLOR for left in (0, 100, 200)
    ]
    assert [kind(crop, quality) for crop in crops].count("color") <= 1


def test_chroma_quantization_is_read_from_the_jpeg_table() -> None:
    def rounding(**options: object) -> tuple[float, float]:
        return chroma_rounding(JpegImageFile(io.BytesIO(saved(Image.fromarray(data.coffee()), "JPEG", **options))))

    assert rounding(quality=50, subsampling=2) == (17 / 8, 16)
    assert rounding(quality=50, subsampling=0) == (17 / 8, 8)
    assert rounding(quality=100, subsampling=1) == (1 / 8, 16)


@pytest.mark.parametrize("name", COLOR)
def test_muted_photographs_are_color(name: str) -> None:
    photograph = np.asarray(getattr(data, name)(), np.float32)
    grey = photograph @ np.array([0.299, 0.587, 0.114], np.float32)
    faded = grey[..., None] + 0.35 * (photograph - grey[..., None])
    cast = faded * np.array([1, 0.92, 0.97]) + np.array([20, 8, 25])
    assert kind(np.clip(cast, 0, 255).astype(np.uint8)) == "color"


@pytest.mark.parametrize("curve", [(90, 70, 40), (140, 100, 70), (150, 135, 110)])
def test_a_tone_may_follow_any_curve(curve: tuple[int, int, int]) -> None:
    for name in (*GREY, *COLOR):
        grey = Image.fromarray(getattr(data, name)()).convert("L")
        assert kind(ImageOps.colorize(grey, (25, 20, 15), (250, 244, 225), curve)) == "toned", name


def test_faint_scanner_noise_is_not_color() -> None:
    grey = np.asarray(Image.fromarray(data.camera()).convert("RGB"), np.float32)
    noise = np.random.default_rng(0).normal(0, 8, grey.shape)
    assert kind(np.clip(grey + noise, 0, 255).astype(np.uint8)) == "grey_as_rgb"


def test_pages_of_text_are_text() -> None:
    assert kind(data.page()) == "text"
    assert kind(data.text()) == "text"


@pytest.mark.parametrize("level", [3, 128, 250])
def test_paper_with_only_grain_is_blank(level: int) -> None:
    grain = np.random.default_rng(0).normal(level, 6, (600, 500))
    assert kind(np.clip(grain, 0, 255).astype(np.uint8)) == "blank"


@pytest.mark.parametrize("name", ["astronaut", "coffee", "rocket"])
def test_color_negative_film_is_recognized_by_its_mask(name: str) -> None:
    inverted = 1 - getattr(data, name)().astype(np.float32) / 255
    assert kind((inverted * np.array([235, 150, 95])).astype(np.uint8)) == "negative"


@pytest.mark.skipif(not ARCHIVE.is_dir(), reason="needs the shared archive of scans")
def test_among_real_scans_only_color_photographs_are_color() -> None:
    found = {
        path.name
        for path in ARCHIVE.rglob("*.*")
        if decode_small(path.read_bytes(), 65536, max_pixels=LIMIT).kind == "color"
    }
    assert found == {f"{letter}.png" for letter in "abcdefgh"}  # autochromes and prints, all in color


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (5, 3), (9, 9), (120, 161)])
def test_strokes_are_filled_as_by_pillow_rank_filters(shape: tuple[int, int]) -> None:
    grey = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    closed = Image.fromarray(grey).filter(ImageFilter.MaxFilter(9)).filter(ImageFilter.MinFilter(9))
    assert np.array_equal(close_strokes(grey), np.asarray(closed))
