"""BMP with alpha, which most programs write and few read."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from colorize.imaging.formats import decode, encode_grey
from colorize.imaging.formats.bmp import write_bmp
from colorize.imaging.formats.metadata import Metadata
from tests.every_kind import samples
from tests.images import LIMIT, colored, grey, opened


def with_opacity() -> bytes:
    out = io.BytesIO()
    write_bmp(out, samples(4, 8, (64, 48)), Metadata(dpi=(300, 300)))
    return out.getvalue()


@pytest.mark.parametrize("channels", [2, 4])
def test_pillow_reads_the_output(channels: int) -> None:
    pixels, out = samples(channels, 8, (61, 47)), io.BytesIO()
    write_bmp(out, pixels, Metadata(dpi=(300, 300)))
    written = opened(out.getvalue())
    expected = pixels if channels == 4 else np.asarray(Image.fromarray(pixels).convert("RGBA"))
    assert np.array_equal(np.asarray(written), expected)
    assert written.info["dpi"] == pytest.approx((300, 300), abs=0.01)


def test_alpha_survives_coloring_and_restoring() -> None:
    source = with_opacity()
    _, out = colored(source)
    assert np.array_equal(grey(opened(out)), grey(opened(source)))
    back = decode(encode_grey(decode(out, max_pixels=LIMIT)), max_pixels=LIMIT)
    for copy in (decode(out, max_pixels=LIMIT), back):
        assert copy.alpha is not None
        assert np.array_equal(copy.alpha, np.asarray(opened(source))[..., 3])
