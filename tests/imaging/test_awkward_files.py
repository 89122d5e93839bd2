"""Every file of an imaging library's test suite, and real scans, colored from bytes to bytes.

The images are not part of the repository: where they are absent these tests are skipped, and `test_image_io.py`
covers the same ground with images of its own.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorize.imaging.compose import compose
from colorize.imaging.formats import DecodedImage, ImageDecodeError, Provenance, decode, decode_small, encode
from colorize.imaging.formats.jpeg_luma import luma_coefficients

DATA = Path(__file__).parents[3] / "shared" / "data"
FOLDERS = ("awkward", "archive")
CODES = {"empty", "not_an_image", "unsupported", "truncated", "unreadable", "too_large"}

pytestmark = pytest.mark.skipif(not (DATA / "awkward").is_dir(), reason="../shared/data is not beside the repository")


def files() -> list[Path]:
    return sorted(p for folder in FOLDERS for p in (DATA / folder).rglob("*") if p.is_file())


def colored(data: bytes) -> tuple[DecodedImage, bytes]:
    small = decode_small(data, 256 * 256, max_pixels=10**8)
    height, width = (max(1, side // 4) for side in small.luma.shape)
    coarse = np.random.default_rng(len(data)).uniform(-60, 60, (2, 4, 4)).astype(np.float32)
    ab = np.stack([np.asarray(Image.fromarray(plane).resize((width, height))) for plane in coarse])
    image = decode(data, max_pixels=10**8)
    return image, encode(image, compose(image, ab.astype(np.float16)), Provenance("m", "0", "s", "1"))


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(DATA)))
@pytest.mark.filterwarnings("ignore")  # the reference below uses Pillow unmodified
def test_each_file_gives_an_image_of_equal_size_or_an_error_code(path: Path) -> None:
    data = path.read_bytes()
    try:
        image, out = colored(data)
    except ImageDecodeError as error:
        assert error.code in CODES
        assert str(error)
        return
    try:
        source = Image.open(io.BytesIO(data))
        source.load()
    except (OSError, ValueError, SyntaxError):  # the reference fails: the copy must be readable by this package
        assert np.array_equal(decode(out, max_pixels=10**8).luma, image.luma)
        return
    written = Image.open(io.BytesIO(out))
    assert written.size == source.size
    written.load()
    if image.info.output_format == "JPEG":
        assert not image.luma_exact or same_luma_blocks(data, out, image)
    elif image.info.bits == 8:
        reference = source.convert("RGB") if source.mode == "LAB" else source  # Pillow turns LAB into RGB only
        assert np.array_equal(np.asarray(written.convert("L")), np.asarray(reference.convert("L")))


def same_luma_blocks(data: bytes, out: bytes, image: DecodedImage) -> bool:
    down, across = -(-image.info.height // 8), -(-image.info.width // 8)
    return np.array_equal(luma_coefficients(data)[:down, :across], luma_coefficients(out)[:down, :across])


def test_most_of_them_can_be_colored() -> None:
    def succeeds(path: Path) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                colored(path.read_bytes())
            except ImageDecodeError:
                return False
            return True

    paths = [path for path in files() if path.suffix in (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")]
    assert sum(map(succeeds, paths)) >= 0.9 * len(paths)
