"""`colorize restore-grey`: the scan restored from a colored copy, compared with the original."""

from __future__ import annotations

import io
from pathlib import Path

import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
from PIL import Image, ImageOps

from colorize.cli import EXIT_FAILURES, EXIT_USAGE, run
from colorize.imaging.formats import read_info
from colorize.storage.root import Storage
from tests.conftest import S3, jpegtran, write_tree
from tests.every_kind import samples
from tests.images import colored, grey, opened, photograph, saved

SUFFIXES = {"JPEG": "jpg", "PNG": "png", "TIFF": "tif", "WEBP": "webp", "JPEG2000": "jp2"}


def restored(source: bytes, folder: Path, name: str = "a.bin") -> bytes:
    """The source, colored, and restored by the command."""
    (folder / name).write_bytes(colored(source)[1])
    target = folder / "restored" / name
    assert run(["restore-grey", str(folder / name), "-o", str(target)]) == 0
    return target.read_bytes()


def restored_together(sources: dict[str, bytes], folder: Path) -> dict[str, bytes]:
    """The same for several files, by name, with one command."""
    write_tree(folder / "copies", {name: colored(source)[1] for name, source in sources.items()})
    assert run(["restore-grey", str(folder / "copies"), "-o", str(folder / "grey")]) == 0
    return {name: (folder / "grey" / name).read_bytes() for name in sources}


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}], ids=str)
def test_a_grey_jpeg_is_restored_with_its_exact_scan_bytes(options: dict[str, int], tmp_path: Path) -> None:
    source = saved(photograph("L"), "JPEG", quality=88, **options)
    back = restored(source, tmp_path)
    assert opened(back).mode == "L"
    assert jpegtran(back, "-optimize") == jpegtran(source, "-optimize")
    scan = source[source.index(b"\xff\xda") :]
    assert back.endswith(scan)


@pytest.mark.parametrize("kind", ["RGB", "sepia"])
def test_the_luminance_of_a_toned_jpeg_is_restored(kind: str, tmp_path: Path) -> None:
    toned = ImageOps.colorize(photograph("L"), (40, 20, 5), (255, 240, 200), mid=(140, 100, 70))
    source = saved(toned if kind == "sepia" else photograph("RGB"), "JPEG", quality=88)
    back = restored(source, tmp_path)
    assert jpegtran(back, "-optimize") == jpegtran(source, "-grayscale", "-optimize")


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "JPEG2000"])
def test_lossless_formats_are_restored_exactly(format: str, tmp_path: Path) -> None:
    images = {mode: photograph(mode) for mode in ("L", "LA", "RGB", "RGBA", *(["1"] if format != "JPEG2000" else []))}
    for mode, image in images.items():
        if "A" in mode:
            image.putalpha(Image.linear_gradient("L").resize(image.size))
    found = restored_together({mode: saved(image, format) for mode, image in images.items()}, tmp_path)

    for mode, image in images.items():
        back = opened(found[mode])
        assert np.array_equal(grey(back), grey(image)), mode
        if "A" in mode:
            assert back.getchannel("A").tobytes() == image.getchannel("A").tobytes(), mode
        assert back.mode in (("RGB", "RGBA") if format == "WEBP" else ("L", "LA")), mode


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2])
def test_16_bits_are_restored_exactly(channels: int, tmp_path: Path) -> None:
    pixels = samples(channels, 16, (61, 47))
    png = restored(bytes(imagecodecs.png_encode(pixels)), tmp_path)
    assert np.array_equal(imagecodecs.png_decode(png), pixels)
    if channels == 1:
        tiff = restored(saved(Image.fromarray(pixels), "TIFF"), tmp_path, "b.bin")
        assert np.array_equal(tifffile.imread(io.BytesIO(tiff)), pixels)
        jp2 = restored(saved(Image.fromarray(pixels), "JPEG2000"), tmp_path, "c.bin")
        assert np.array_equal(imagecodecs.jpeg2k_decode(jp2), pixels)


def test_restoring_keeps_metadata_and_removes_provenance(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "Pier, 1931"
    options = {format: {"exif": exif} if format != "JPEG2000" else {} for format in SUFFIXES}
    scans = {format: saved(photograph("L"), format, **options[format]) for format in SUFFIXES}
    for format, back in restored_together(scans, tmp_path).items():
        assert b"Colors inferred" not in back, format
        assert b"colorize:" not in back, format
        if format != "JPEG2000":
            assert read_info(back).orientation == 6, format
            assert opened(back).getexif()[0x010E] == "Pier, 1931", format


def test_trees_are_restored_under_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = tmp_path / "colored"
    for name, format in (("a.jpg", "JPEG"), ("1931/a.jpg", "JPEG"), ("1931/b.png", "PNG")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(colored(saved(photograph("L"), format))[1])
    (tree / "_colorize").mkdir()
    (tree / "_colorize" / "run.json").write_text("{}")
    assert run(["restore-grey", str(tree), "-o", str(tmp_path / "grey")]) == 0

    written = sorted(path.relative_to(tmp_path / "grey").as_posix() for path in (tmp_path / "grey").rglob("*.*"))
    assert written == ["1931/a.jpg", "1931/b.png", "a.jpg"]
    *lines, summary = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all("as scanned" in line for line in lines)
    assert summary == "3 images: 3 restored, 0 failed"


@pytest.mark.slow
def test_existing_files_are_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The original's own name is the obvious choice for the output."""
    monkeypatch.chdir(tmp_path)
    scan, copy = saved(photograph("L"), "JPEG"), Path("colored/grandma.jpg")
    copy.parent.mkdir()
    copy.write_bytes(colored(scan)[1])
    Path("grandma.jpg").write_bytes(scan)
    assert run(["restore-grey", "colored/grandma.jpg", "-o", "grandma.jpg"]) == EXIT_FAILURES
    assert "grandma.jpg already exists; --overwrite replaces it" in capsys.readouterr().err
    assert Path("grandma.jpg").read_bytes() == scan

    Path("grandma.jpg").write_bytes(b"of an earlier run")
    assert run(["restore-grey", "colored/grandma.jpg", "-o", "grandma.jpg", "--overwrite"]) == 0
    assert jpegtran(Path("grandma.jpg").read_bytes(), "-optimize") == jpegtran(scan, "-optimize")


@pytest.mark.slow
def test_comparison_sheets_are_not_restored(tmp_path: Path) -> None:
    scans = {"a.jpg": saved(photograph("L"), "JPEG"), "b.jpg.compare.jpg": saved(photograph("L"), "JPEG")}
    for name, data in scans.items():
        (tmp_path / name).write_bytes(data)
    assert run(["photo", *(str(tmp_path / name) for name in scans), "-o", str(tmp_path / "c"), "--compare"]) == 0
    assert run(["restore-grey", str(tmp_path / "c"), "-o", str(tmp_path / "grey")]) == 0
    assert {path.name for path in (tmp_path / "grey").iterdir()} == set(scans)


@pytest.mark.slow
def test_other_images_are_refused_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cmyk = colored(saved(photograph("CMYK"), "JPEG"))[1]
    files = {
        "plain.png": saved(photograph("RGB"), "PNG"),
        "from-cmyk.jpg": cmyk,
        "colored.bmp": colored(saved(photograph("L"), "BMP"))[1],
        "notes.txt": b"no image",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    paths = [str(tmp_path / name) for name in files]
    assert run(["restore-grey", *paths, "-o", str(tmp_path / "grey")]) == EXIT_FAILURES

    errors = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in errors] == paths
    reasons = ("XMP does not say so", "not exactly", "BMP has no metadata", "no known")
    for line, words in zip(errors, reasons, strict=True):
        assert words in line
    assert all("--force" in line for line in errors[:3])
    assert not (tmp_path / "grey").exists()

    assert run(["restore-grey", *paths[:3], "-o", str(tmp_path / "grey"), "--force"]) == 0
    for name in ("plain.png", "colored.bmp"):
        assert np.array_equal(grey(opened((tmp_path / "grey" / name).read_bytes())), grey(opened(files[name])))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.jpg", "-o", "out"], "does not exist"),
        (["a.jpg", "-o", "a.jpg"], "overlaps"),
        (["a.jpg", "b/a.jpg", "-o", "out"], "would both become"),
        (["a.jpg"], "Missing option"),
    ],
)
def test_a_usage_error_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert run(["restore-grey", *arguments]) == EXIT_USAGE
    text = capsys.readouterr().err
    assert message in text
    assert text.count("\n") == 1


@pytest.mark.slow
def test_buckets_are_restored_too(s3: S3) -> None:
    source = saved(photograph("L"), "JPEG")
    Storage("s3://colored/restore").write("1931/a.jpg", colored(source)[1])
    assert run(["restore-grey", "s3://colored/restore", "-o", "s3://scans/restored"]) == 0
    back = Storage("s3://scans/restored").read("1931/a.jpg")
    assert jpegtran(back, "-optimize") == jpegtran(source, "-optimize")


@pytest.mark.slow
def test_an_archive_is_restored_with_every_other_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy, none (a failed row), an image that is not a copy, and a file that is not an image."""
    scan = saved(photograph("L"), "JPEG", quality=88)
    copies = [colored(scan)[1], None, scan, b"no image"]
    table = pa.table({"id": [7, 8, 9, 10], "colorized": copies, "status": ["ok"] * 4, "error": [""] * 4})
    pq.write_table(table, tmp_path / "colored.parquet")
    words = ["restore-grey", str(tmp_path / "colored.parquet"), "-o", str(tmp_path / "grey.parquet")]
    assert run(words) == EXIT_FAILURES
    shown = capsys.readouterr()
    back = pq.read_table(tmp_path / "grey.parquet")

    assert back.column_names == ["id", "restored", "error"]
    assert back["id"].to_pylist() == [7, 8, 9, 10]
    first, *others = back["restored"].to_pylist()
    assert jpegtran(first, "-optimize") == jpegtran(scan, "-optimize")
    assert others == [None] * 3
    assert back["error"].to_pylist()[:2] == ["", "no colored copy"]
    assert [line.partition(": ")[0].rpartition("#")[2] for line in shown.err.splitlines()] == ["2", "3"]
    assert shown.out.splitlines()[0].endswith("grey.parquet (1 of 4 rows, in column restored)")
    assert shown.out.splitlines()[1:] == ["3 images: 1 restored, 2 failed"]

    assert run([*words, "--overwrite", "--force"]) == EXIT_FAILURES  # not an image
    assert "2 of 4 rows" in capsys.readouterr().out


def test_an_archive_without_colored_copies_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "a.parquet")
    assert run(["restore-grey", str(tmp_path / "a.parquet"), "-o", str(tmp_path / "out")]) == EXIT_FAILURES

    assert "no column 'colorized'" in capsys.readouterr().err
    assert not (tmp_path / "out/a.parquet").exists()
