"""Training's pictures: one that harms is broken like any other, and the rest of its batch is read."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from colorize.training.feed import training_rows
from tests import bombs


@pytest.mark.parametrize("isolated", [False, True])
def test_broken_pictures_are_black_rows_in_their_places(isolated: bool) -> None:
    out = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 30, 20)).save(out, "PNG")
    pictures = [out.getvalue(), b"no picture", bombs.tiff_of_many_directories(24_000)[:64], out.getvalue()]
    rows = training_rows(pictures, 16, [0.5] * 4, isolated=isolated)

    assert [row["broken"] for row in rows] == [False, True, True, False]
    assert [row["rgb"].shape for row in rows] == [(16, 16, 3)] * 4
    assert np.array_equal(rows[0]["rgb"], rows[3]["rgb"])
    assert not rows[1]["rgb"].any()
