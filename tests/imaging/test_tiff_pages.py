"""TIFFs of several pages, and TIFFs beyond 4 GB: a copy has everything that its source has."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from colorize.bulk.ledger.newest import read_manifest
from colorize.cli import run
from colorize.imaging.formats import ImageDecodeError, decode, encode_grey_pages_into, page_origins, tiff
from colorize.predict.render import render
from colorize.storage.root import Storage
from tests.bulk.test_bulk import bulk
from tests.every_kind import samples
from tests.images import LIMIT, PROVENANCE, colored, photograph, saved, smooth_ab
from tests.imaging.test_tiff_kinds import directory, luma, stored

SIZE = (64, 48)
PAGES: list[tuple[NDArray[Any], dict[str, Any]]] = [
    (samples(1, 8, SIZE), {"photometric": "minisblack"}),
    (samples(3, 16, SIZE), {"photometric": "rgb", "compression": "zlib", "predictor": True}),
    (samples(1, 16, (130, 90)), {"photometric": "miniswhite", "tile": (16, 16), "compression": "lzw"}),
    (samples(3, 8, (20, 90)), {"photometric": "rgb", "compression": "jpeg", "planarconfig": "contig"}),
    (samples(1, 8, (90, 20)), {"photometric": "minisblack", "rowsperstrip": 7, "description": "the last page"}),
]


def document(**file: Any) -> bytes:
    out = io.BytesIO()
    with tifffile.TiffWriter(out, **file) as writer:
        for number, (pixels, options) in enumerate(PAGES):
            number_tag = (297, 3, 2, (number, len(PAGES)), True)
            writer.write(pixels, metadata=None, subfiletype=2, extratags=[number_tag], **options)
    return out.getvalue()


def pages_of(encoded: bytes) -> list[tifffile.TiffPage]:
    with tifffile.TiffFile(io.BytesIO(encoded)) as file:
        return [page for page in file.pages if isinstance(page, tifffile.TiffPage) and page.asarray() is not None]


def arrays(encoded: bytes) -> list[NDArray[Any]]:
    with tifffile.TiffFile(io.BytesIO(encoded)) as file:
        return [page.asarray() for page in file.pages]


KINDS: dict[str, dict[str, Any]] = {"": {}, "big-endian": {"byteorder": ">"}, "BigTIFF": {"bigtiff": True}}


@pytest.mark.parametrize("kind", KINDS)
def test_each_page_is_colored_or_copied(kind: str) -> None:
    source = document(**KINDS[kind])
    assert decode(source, max_pixels=LIMIT).info.frames == len(PAGES)
    chosen = {0, 2, 4}
    made = render(source, dict.fromkeys(chosen, smooth_ab()), PROVENANCE, max_pixels=LIMIT)
    assert made.luma_exact
    assert made.data[:4] == source[:4]
    before, after = arrays(source), arrays(made.data)
    assert len(after) == len(PAGES)
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        if number in chosen:
            expected = np.asarray(decode(source, max_pixels=LIMIT, page=number).luma)
            assert np.array_equal(luma(new), expected)
            assert np.ptp(new.astype(int), axis=2).max() > 8
        else:
            assert np.array_equal(new, old)
    tags = [page.tags for page in pages_of(made.data)]
    assert [tag.valueof(297) for tag in tags] == [(number, len(PAGES)) for number in range(len(PAGES))]
    assert [bool(tag.valueof(700)) for tag in tags] == [number in chosen for number in range(len(PAGES))]
    assert tags[4].valueof(270) == "the last page"
    assert [origin is not None for origin in page_origins(made.data)] == [n in chosen for n in range(len(PAGES))]


def test_a_copied_page_is_stored_unchanged() -> None:
    source = document()
    made = render(source, {0: smooth_ab()}, PROVENANCE, max_pixels=LIMIT)
    for old, new in zip(pages_of(source)[1:], pages_of(made.data)[1:], strict=True):
        assert (new.compression, new.photometric, new.is_tiled) == (old.compression, old.photometric, old.is_tiled)
        for (a, n), (b, m) in zip(
            zip(old.dataoffsets, old.databytecounts, strict=True),
            zip(new.dataoffsets, new.databytecounts, strict=True),
            strict=True,
        ):
            assert source[a : a + n] == made.data[b : b + m]


def test_a_copied_page_that_lacks_a_strip_is_truncated() -> None:
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        for _ in range(2):
            writer.write(np.zeros((30, 20), np.uint8), metadata=None, rowsperstrip=10)
    source = bytearray(out.getvalue())
    struct.pack_into("<I", source, pages_of(bytes(source))[1].tags[273].offset + 4, 2)  # offsets of three strips
    with pytest.raises(ImageDecodeError) as failed:
        render(bytes(source), {0: smooth_ab()}, PROVENANCE, max_pixels=LIMIT)
    assert failed.value.code == "truncated"


@pytest.mark.parametrize("offset", [1, 8], ids=["in the header", "elsewhere"])
def test_a_page_with_a_damaged_interpretation_does_not_spoil_the_others(offset: int) -> None:
    """As 40 values from this offset on; tifffile ignores those in the header, which have another offset in a copy."""
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        for seed in (1, 2):
            writer.write(samples(1, 8, SIZE) // seed, photometric="minisblack")
    data = bytearray(out.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as tiff_file:
        page = tiff_file.pages[1].aspage()
        tag = page.tags["PhotometricInterpretation"]
    struct.pack_into("<HHII", data, tag.offset, tag.code, 3, 40, offset)

    made = render(bytes(data), {0: smooth_ab()}, PROVENANCE, max_pixels=LIMIT)
    before, after = (decode(file, max_pixels=LIMIT).luma for file in (bytes(data), made.data))
    assert made.luma_exact
    np.testing.assert_array_equal(np.asarray(after), np.asarray(before))


def test_scans_are_restored_page_by_page() -> None:
    source = document()
    made = render(source, {0: smooth_ab(), 2: smooth_ab()}, PROVENANCE, max_pixels=LIMIT)
    out = io.BytesIO()
    encode_grey_pages_into(out, made.data)
    for number in range(len(PAGES)):
        old, new = (decode(data, max_pixels=LIMIT, page=number) for data in (source, out.getvalue()))
        assert np.array_equal(old.luma, new.luma)
    assert not any(page_origins(out.getvalue()))


def test_an_old_style_jpeg_page_is_copied_as_what_it_decodes_to() -> None:
    data = saved(photograph("RGB", SIZE), "JPEG", quality=95, subsampling="4:4:4")
    tags = {258: 8, 259: 6, 262: 6, 277: 3, 512: 1, 513: 8, 514: len(data)}
    source = directory(data, *SIZE, tags)
    made = render(source, {}, PROVENANCE, max_pixels=LIMIT)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int)
    assert np.abs(stored(made.data).astype(int) - expected).max() <= 2


@pytest.mark.parametrize("order", "<>")
def test_a_copy_above_4_gib_is_bigtiff(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, out = samples(1, 16, (130, 90)), io.BytesIO()
    with tifffile.TiffWriter(out, byteorder=">" if order == ">" else "<") as writer:
        writer.write(pixels, metadata=None, extratags=[(34665, 4, 1, 0, True)])
    small = colored(out.getvalue())[1]
    monkeypatch.setattr(tiff, "_MAX_CLASSIC_BYTES", 1000)
    large = colored(out.getvalue())[1]
    assert struct.unpack_from(order + "H", small, 2) == (42,)
    assert struct.unpack_from(order + "H", large, 2) == (43,)
    assert np.array_equal(stored(large), stored(small))
    assert decode(large, max_pixels=LIMIT).metadata.xmp == decode(small, max_pixels=LIMIT).metadata.xmp


def test_tags_of_every_type_are_kept() -> None:
    out = io.BytesIO()
    extra = [(65000, 16, 2, (2**40, 7), True), (65001, 17, 1, -5, True), (65002, 12, 1, 0.5, True)]
    with tifffile.TiffWriter(out, bigtiff=True) as writer:
        writer.write(samples(1, 8, SIZE), metadata=None, extratags=extra)
    written = pages_of(colored(out.getvalue())[1])[0].tags
    assert (written.valueof(65000), written.valueof(65001), written.valueof(65002)) == ((2**40, 7), -5, 0.5)


def test_utf_8_is_kept() -> None:
    name = "K\u00f6ln\0".encode()
    out = io.BytesIO()
    tifffile.imwrite(out, samples(1, 8, SIZE), metadata=None, extratags=[(315, 7, len(name), name, True)])
    source = out.getvalue().replace(struct.pack("<HH", 315, 7), struct.pack("<HH", 315, 129))
    copy = colored(source)[1]
    at = copy.index(struct.pack("<HH", 315, 129))
    count, place = struct.unpack_from("<II", copy, at + 4)
    assert copy[place : place + count] == name


# Through the jobs


def scans(folder: Path) -> Path:
    """A folder with a TIFF of three pages, the second in color, and one that is in color throughout."""
    folder.mkdir()
    grey = [photograph("L", (200, 150)), photograph("L", (150, 200)).transpose(Image.Transpose.ROTATE_180)]
    color = photograph("RGB", (220, 160))
    (folder / "mixed.tif").write_bytes(saved(grey[0], "TIFF", save_all=True, append_images=[color, grey[1]]))
    (folder / "color.tif").write_bytes(saved(color, "TIFF", save_all=True, append_images=[color]))
    return folder


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_bulk_triages_page_by_page(tmp_path: Path) -> None:
    source, target = scans(tmp_path / "in"), tmp_path / "out"
    assert bulk(source, target, "--set", "triage.color=skip") == 0
    rows = {row["path"]: row for row in read_manifest(Storage(target)).to_pylist()}
    mixed, color = rows["mixed.tif"], rows["color.tif"]
    assert (mixed["status"], mixed["frames"], mixed["luma_exact"]) == ("ok", 3, True)
    assert mixed["message"] == "2 of 3 pages colored, the others copied as they are"
    assert (color["status"], color["error"], color["frames"]) == ("skipped", "already_color", 2)
    before, after = (arrays((root / "mixed.tif").read_bytes()) for root in (source, target))
    assert np.array_equal(after[1], before[1])
    for page in (0, 2):
        assert np.array_equal(luma(after[page]), before[page])
        assert np.ptp(after[page].astype(int), axis=2).max() > 8

    assert bulk(source, tmp_path / "first", "--set", "output.pages=first") == 0
    rows = {row["path"]: row for row in read_manifest(Storage(tmp_path / "first")).to_pylist()}
    assert rows["mixed.tif"]["message"] == "the first of 3 frames or pages"
    assert len(arrays((tmp_path / "first" / "mixed.tif").read_bytes())) == 1


@pytest.mark.slow
def test_photo_colors_every_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = scans(tmp_path / "in") / "mixed.tif"
    assert run(["photo", str(source), "-o", str(tmp_path / "out"), "--compare"]) == 0
    copy = (tmp_path / "out" / "mixed.tif").read_bytes()
    assert all(page_origins(copy))
    assert [page.shape for page in arrays(copy)] == [(150, 200, 3), (160, 220, 3), (200, 150, 3)]
    assert run(["restore-grey", str(tmp_path / "out" / "mixed.tif"), "-o", str(tmp_path / "back.tif")]) == 0
    back = arrays((tmp_path / "back.tif").read_bytes())
    before = arrays(source.read_bytes())
    assert np.array_equal(back[0], before[0])
    assert np.array_equal(back[1], luma(before[1]))


@pytest.mark.parametrize("channels", [1, 3])
def test_page_metadata_and_provenance_are_kept(channels: int) -> None:
    out = io.BytesIO()
    white = (318, 5, 2, (3127, 10000, 3290, 10000), True)
    photometric = "rgb" if channels == 3 else "minisblack"
    pixels = samples(channels, 8, SIZE)
    with tifffile.TiffWriter(out) as writer:
        writer.write(pixels, photometric=photometric, metadata=None, extratags=[white, (297, 3, 2, (0, 1), True)])
    kept = pages_of(colored(out.getvalue())[1])[0].tags
    assert kept.valueof(297) == (0, 1)
    assert kept.valueof(318) == ((3127, 10000, 3290, 10000) if channels == 3 else None)
