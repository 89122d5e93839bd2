"""Any image with any color, including saturated ones, keeps the luma of its source."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from colorize.imaging.compose import compose, exact_rgb
from colorize.imaging.formats import decode, encode, encode_grey
from tests.conftest import jpegtran
from tests.images import LIMIT, PROVENANCE, grey, opened, saved

SIDES = arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)
EIGHT = arrays.arrays(np.uint8, SIDES)
SIXTEEN = arrays.arrays(np.uint16, SIDES)
COLOR = arrays.arrays(
    np.float32, st.tuples(st.just(2), st.integers(1, 6), st.integers(1, 6)),
    elements=st.floats(-128, 128, width=32),
)  # fmt: skip
MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SOME = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def grey16(rgb: NDArray[np.uint16]) -> NDArray[np.float64]:
    wide = rgb.astype(np.float64)
    luma: NDArray[np.float64] = np.rint(0.299 * wide[..., 0] + 0.587 * wide[..., 1] + 0.114 * wide[..., 2])
    return luma


@MANY
@given(EIGHT, COLOR)
def test_8_bit_luma_is_kept(luma: NDArray[np.uint8], ab: NDArray[np.float32]) -> None:
    rgb = exact_rgb(luma, ab)
    assert np.array_equal(np.asarray(Image.fromarray(rgb).convert("L")), luma)


@pytest.mark.slow
@MANY
@given(SIXTEEN, COLOR)
def test_16_bit_luma_is_kept(luma: NDArray[np.uint16], ab: NDArray[np.float32]) -> None:
    assert np.array_equal(grey16(exact_rgb(luma, ab)), luma)


@SOME
@given(EIGHT, COLOR, st.sampled_from(["PNG", "TIFF", "WEBP", "BMP", "JPEG2000"]), st.sampled_from(["L", "RGB"]))
def test_8_bit_files_are_kept(luma: NDArray[np.uint8], ab: NDArray[np.float32], format: str, mode: str) -> None:
    source = saved(Image.fromarray(luma).convert(mode), format)
    image = decode(source, max_pixels=LIMIT)
    out = encode(image, compose(image, ab), PROVENANCE)
    assert np.array_equal(grey(opened(out)), luma)
    assert np.array_equal(grey(opened(encode_grey(decode(out, max_pixels=LIMIT)))), luma)


@SOME
@given(SIXTEEN, COLOR, st.sampled_from(["PNG", "TIFF"]))
def test_16_bit_files_are_kept(luma: NDArray[np.uint16], ab: NDArray[np.float32], format: str) -> None:
    image = decode(saved(Image.fromarray(luma), format), max_pixels=LIMIT)
    out = encode(image, compose(image, ab), PROVENANCE)
    back = encode_grey(decode(out, max_pixels=LIMIT))
    if format == "PNG":
        colored, restored = imagecodecs.png_decode(out), imagecodecs.png_decode(back)
    else:
        colored, restored = (tifffile.imread(io.BytesIO(data)) for data in (out, back))
    assert np.array_equal(grey16(np.asarray(colored).reshape(*luma.shape, 3)), luma)
    assert np.array_equal(np.asarray(restored).reshape(luma.shape), luma)


@SOME
@given(
    EIGHT, COLOR, st.integers(1, 100), st.sampled_from(["L", "RGB"]), st.booleans(),
    st.sampled_from(["4:2:0", "4:4:4"]), st.integers(0, 3),
)  # fmt: skip
def test_jpeg_coefficients_are_kept(
    luma: NDArray[np.uint8],
    ab: NDArray[np.float32],
    quality: int,
    mode: str,
    progressive: bool,
    subsampling: str,
    restarts: int,
) -> None:
    pil_image = Image.fromarray(luma).convert(mode)
    source = saved(pil_image, "JPEG", quality=quality, progressive=progressive, restart_marker_blocks=restarts)
    image = decode(source, max_pixels=LIMIT)
    out = encode(image, compose(image, ab, subsampling), PROVENANCE)  # type: ignore[arg-type]
    expected = jpegtran(source, "-grayscale", "-optimize")
    assert jpegtran(out, "-grayscale", "-optimize") == expected
    assert jpegtran(encode_grey(decode(out, max_pixels=LIMIT)), "-optimize") == expected
