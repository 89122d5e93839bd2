"""Reencoded luma: the same bytes with and without the system's libjpeg-turbo."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from colorize.imaging.formats import jpeg_luma
from colorize.imaging.formats.jpeg_luma import grey_jpeg, luma_coefficients
from colorize.imaging.formats.jpeg_stream import assemble, first_plane
from tests.conftest import jpegtran, program
from tests.images import photograph, saved

CODINGS: list[dict[str, Any]] = [
    {"subsampling": "4:4:4"}, {"subsampling": "4:2:0"}, {"subsampling": "4:2:2"}, {"progressive": True},
    {"quality": 100}, {"quality": 5}, {"restart_marker_blocks": 3}, {"optimize": True},
]  # fmt: skip


def luma_only(data: bytes) -> bytes:
    plane = first_plane(data)
    assert plane is not None
    return assemble((plane,), ())


def transformed(source: bytes) -> bytes:
    program("jpegtran", "libjpeg-turbo-progs")  # includes the library
    made = jpeg_luma._transformed(source)
    assert made is not None
    return made


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg_luma, "_turbojpeg", lambda: None)


@pytest.mark.parametrize("options", CODINGS, ids=str)
@pytest.mark.parametrize("size", [(61, 47), (64, 32), (9, 70), (1, 1)])
def test_both_backends_give_the_same_bytes(options: dict[str, Any], size: tuple[int, int]) -> None:
    source = saved(photograph("RGB", size), "JPEG", **options)
    made = transformed(source)
    assert luma_only(made) == luma_only(jpeg_luma._by_jpeglib(source, size))
    assert np.array_equal(luma_coefficients(made), luma_coefficients(source))


def test_arithmetic_coding_gives_the_same_bytes_in_both_backends() -> None:
    source = jpegtran(saved(photograph("RGB"), "JPEG"), "-arithmetic")
    assert luma_only(transformed(source)) == luma_only(jpeg_luma._by_jpeglib(source, (61, 47)))


@pytest.mark.usefixtures("without_library")
def test_without_the_library_jpeglib_is_used() -> None:
    source = saved(photograph("RGB"), "JPEG")
    assert np.array_equal(luma_coefficients(grey_jpeg(source, (61, 47))), luma_coefficients(source))


def test_files_with_library_warnings_use_jpeglib() -> None:
    source = saved(photograph("RGB", (200, 100)), "JPEG")
    damaged = source[: len(source) // 2] + b"\xff\xd9"
    assert jpeg_luma._transformed(damaged) is None
    assert np.array_equal(luma_coefficients(grey_jpeg(damaged, (200, 100))), luma_coefficients(damaged))
