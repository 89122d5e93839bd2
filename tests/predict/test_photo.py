"""`colorize photo`: files and links in, colored copies out, without Ray, and with sources unmodified."""

from __future__ import annotations

import functools
import http.server
import io
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorize.cli import EXIT_FAILURES, EXIT_FAULT, EXIT_USAGE, run
from colorize.weights import shipped_weights
from tests import bombs, poison
from tests.conftest import grey_jpeg, write_tree


def test_images_go_into_a_folder_under_their_names(photo_folder: Path, tmp_path: Path) -> None:
    sources = [photo_folder / "grey.jpg", photo_folder / "1931/wide.png", photo_folder / "modern.webp"]
    assert run(["photo", *map(str, sources), "-o", str(tmp_path / "out")]) == 0

    for source in sources:
        colored = Image.open(tmp_path / "out" / source.name)
        assert colored.size == Image.open(source).size
        assert colored.convert("RGB").getcolors(3) is None  # more than three colors


def test_one_image_can_be_written_to_a_named_file(photo_folder: Path, tmp_path: Path) -> None:
    assert run(["photo", str(photo_folder / "grey.jpg"), "-o", str(tmp_path / "mine.jpg")]) == 0
    assert (tmp_path / "mine.jpg").exists()


@pytest.mark.slow
def test_a_copy_is_never_written_under_a_wrong_suffix(
    photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan, wrong = str(photo_folder / "grey.jpg"), tmp_path / "out.png"
    assert run(["photo", scan, "-o", str(wrong)]) == EXIT_FAILURES
    right, reason = wrong.with_suffix(".jpg"), f"{scan}: a copy keeps the format of its source, JPEG"
    assert capsys.readouterr().err == f"{reason}: use --output {right}\n"
    other = tmp_path / "out.v2"
    assert run(["photo", scan, "-o", str(other)]) == EXIT_FAILURES
    assert capsys.readouterr().err == f"{reason}: use --output {right}, or {other}/ for a folder\n"
    assert list(tmp_path.glob("out.*")) == []

    assert run(["photo", scan, "-o", f"{other}/"]) == 0
    assert (other / "grey.jpg").is_file()


@pytest.mark.slow
def test_existing_files_are_replaced_only_on_request(
    photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan, target = str(photo_folder / "grey.jpg"), tmp_path / "mine.jpg"
    target.write_bytes(b"mine")
    assert run(["photo", scan, "-o", str(target)]) == EXIT_FAILURES
    assert capsys.readouterr().err == f"{scan}: {target} already exists: --overwrite replaces it\n"
    assert target.read_bytes() == b"mine"

    assert run(["photo", scan, "-o", str(target), "--overwrite"]) == 0
    assert target.read_bytes() != b"mine"


def test_settings_control_encoding_and_names(photo_folder: Path, tmp_path: Path) -> None:
    chosen = ["--set", "output.subsampling=4:4:4", "--set", "output.digital_source_type=trainedAlgorithmicMedia"]
    assert run(["photo", str(photo_folder / "grey.jpg"), "-o", str(tmp_path / "mine.jpg"), *chosen]) == 0
    written = (tmp_path / "mine.jpg").read_bytes()
    assert b"digitalsourcetype/trainedAlgorithmicMedia" in written
    assert [layer[1:3] for layer in Image.open(io.BytesIO(written)).layer] == [(1, 1)] * 3  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_source_is_never_overwritten(photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (photo_folder / "grey.jpg").read_bytes()
    monkeypatch.chdir(photo_folder)
    assert run(["photo", "grey.jpg"]) == 0
    assert run(["photo", "1931/wide.png"]) == 0
    assert run(["photo", "grey.jpg", "-o", "grey.jpg"]) == EXIT_USAGE

    assert (photo_folder / "grey.jpg").read_bytes() == before
    assert (photo_folder / "grey.colorized.jpg").exists()
    assert (photo_folder / "wide.colorized.png").exists()


def test_compare_puts_grey_colored_and_original_side_by_side(photo_folder: Path, tmp_path: Path) -> None:
    assert run(["photo", str(photo_folder / "1931/wide.png"), "-o", str(tmp_path), "--compare"]) == 0

    sheet, source = Image.open(tmp_path / "wide.png.compare.jpg"), Image.open(photo_folder / "1931/wide.png")
    assert sheet.width / sheet.height == pytest.approx(3 * source.width / source.height, rel=0.01)


@pytest.fixture
def web(photo_folder: Path) -> Iterator[str]:
    """`photo_folder` behind a web server on the loopback interface."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Logs nothing: the tests read stderr."""

    handler = functools.partial(Quiet, directory=str(photo_folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def test_http_links_are_downloaded(web: str, tmp_path: Path) -> None:
    link = f"{web}/1931/K%C3%B6ln,%20Stra%C3%9Fe%20%233%20100%25.jpg"
    assert run(["photo", link, f"{web}/grey.jpg", "-o", str(tmp_path), "--allow-private"]) == 0

    assert {path.name for path in tmp_path.glob("*.jpg")} == {"Köln, Straße #3 100%.jpg", "grey.jpg"}


def test_private_addresses_are_not_contacted(web: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["photo", f"{web}/grey.jpg", "-o", str(tmp_path / "out")]) == EXIT_FAILURES

    assert "127.0.0.1 is a private address: refused without --allow-private" in capsys.readouterr().err


@pytest.mark.slow
def test_failures_are_reported_and_the_rest_is_colored(
    web: str, photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    sources = [
        str(tmp_path / "notes.txt"),
        f"{web}/absent.jpg",
        str(tmp_path / "gone.jpg"),
        str(photo_folder / "grey.jpg"),
    ]
    assert run(["photo", *sources, "-o", str(tmp_path / "out"), "--allow-private"]) == EXIT_FAILURES

    captured = capsys.readouterr()
    assert [line.split(": ")[0] for line in captured.err.splitlines()] == sources[:3]
    assert (tmp_path / "out" / "grey.jpg").exists()


@pytest.mark.slow
def test_no_image_can_end_the_command(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(poison.install(tmp_path / "site")))
    huge = io.BytesIO()
    Image.new("RGB", (4000, 4000)).save(huge, "BMP")
    packet = bombs.xmp("<n:a>" * 5000 + "</n:a>" * 5000)
    files = {
        "crash.jpg": grey_jpeg(1) + b"poison:load:segfault",
        "hang.jpg": grey_jpeg(2) + b"poison:write:hang",
        "hog.bmp": huge.getvalue(),
        "nested.jpg": bombs.jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet)),
        "sparse.tif": b"II*\0",
        "bomb.tif": bombs.tiff_of_overlapping_tags(2700, 336_000),
    }
    write_tree(tmp_path / "in", files)
    os.truncate(tmp_path / "in/sparse.tif", 7 << 40)
    links = ["HTTP://127.0.0.1/a.jpg", "generic://http://127.0.0.1/b.jpg", "s3a://"]
    sources = [*(str(tmp_path / "in" / name) for name in files), *links, str(photo_folder / "grey.jpg")]
    limits = ["--set", "limits.seconds=6", "--set", "limits.memory_mb=100"]
    assert run(["photo", *sources, "-o", str(tmp_path / "out"), *limits]) == EXIT_FAILURES

    failing, lines = ["crash", "hang", "hog", "sparse", "bomb", *links], capsys.readouterr().err.splitlines()
    assert len(lines) == len(failing), lines
    said = dict(zip(failing, lines, strict=True))
    assert "SIGSEGV" in said["crash"]
    assert "limits.seconds" in said["hang"]
    assert "limits.memory_mb" in said["hog"]
    assert "limits.max_bytes" in said["sparse"]
    assert "more than the" in said["bomb"]
    assert "private address" in said[links[0]]
    assert "unknown protocol" in said[links[1]]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"grey.jpg", "nested.jpg"}


@pytest.mark.slow
def test_no_file_name_can_end_the_command(
    web: str, photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cycle of links, and web links whose names are invalid: `Path` raises for each of them."""
    circle = tmp_path / "circle.jpg"
    circle.symlink_to(circle)
    odd = [f"{web}/%00.jpg", f"{web}/a/..", "http://[::1/a.png", f"{web}/{'x' * 5000}.jpg"]
    sources = [str(circle), odd[0], odd[1], str(photo_folder / "grey.jpg")]
    assert run(["photo", *sources, "-o", str(tmp_path / "out")]) == EXIT_FAILURES
    assert (tmp_path / "out/grey.jpg").exists()
    assert "3 failed" in capsys.readouterr().out
    for source in odd[2:]:
        assert run(["photo", source, str(photo_folder / "grey.jpg"), "-o", str(tmp_path / "out")]) == EXIT_FAILURES
        assert "unexpected" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_copy_does_not_reveal_the_model_path(photo_folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "secret place" / "mine.safetensors"
    model.parent.mkdir()
    shutil.copy(shipped_weights()["default"], model)
    assert run(["photo", str(photo_folder / "grey.jpg"), "-o", str(tmp_path / "a.jpg"), "--model", str(model)]) == 0

    written = (tmp_path / "a.jpg").read_bytes()
    assert b"by mine.safetensors (sha256" in written
    assert b"secret" not in written


def test_an_unusable_model_is_reported_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = str(tmp_path / "nothere.jpg")
    assert run(["photo", absent, "-o", str(tmp_path / "out")]) == EXIT_FAILURES
    assert capsys.readouterr().err == f"{absent}: no such file or directory\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a/x.jpg", "b/x.jpg", "-o", "out"], "would both become"),
        (["x.jpg", "--model", "nope"], "unknown model 'nope'"),
        (
            ["x.jpg", "--model", "siggraph17"],
            "run `colorize models download siggraph17`, or give a file, siggraph17=FILE",
        ),
        (
            ["x.jpg", "--model", "unet"],
            "'unet' is an architecture without shipped weights: give a training run's folder",
        ),
        (["x.jpg", "--set", "colorizer.sise=1"], "did you mean 'colorizer.size'"),
        ([], "Missing argument"),
        (["x.jpg", "-o", "s3://bucket/x"], "use `colorize bulk`"),
    ],
)
def test_a_usage_error_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["photo", *arguments]) == EXIT_USAGE

    text = capsys.readouterr().err
    assert message in text
    assert text.count("\n") == 1


@pytest.mark.slow
def test_sources_are_never_modified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the names of copies: those of other sources, ones with an added suffix, and the sheets' names."""
    monkeypatch.chdir(tmp_path)
    gif = io.BytesIO()
    Image.fromarray(np.full((40, 60), 90, np.uint8)).save(gif, "GIF")
    scans = {"a/x.jpg": grey_jpeg(1), "b/x.jpg": grey_jpeg(2), "in/a.gif": gif.getvalue(), "a.gif.png": gif.getvalue()}
    write_tree(tmp_path, scans)
    assert run(["photo", "a/x.jpg", "b/x.jpg", "-o", "b"]) == EXIT_USAGE  # both would be b/x.colorized.jpg
    assert run(["photo", "in/a.gif", "a.gif.png", "-o", "."]) == EXIT_FAILURES
    assert run(["photo", "in/a.gif", "a.gif.png", "-o", "out"]) == EXIT_FAILURES  # both would be out/a.gif.png
    assert {name: (tmp_path / name).read_bytes() for name in scans} == scans


@pytest.mark.slow
def test_it_needs_no_ray(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(grey_jpeg(1))
    code = (
        "import sys; from colorize.cli import run; status = run(['photo', 'a.jpg', '-o', 'b.jpg']); "
        "sys.exit(status or ('ray' in sys.modules and 9))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0
    assert Image.open(io.BytesIO((tmp_path / "b.jpg").read_bytes())).mode == "RGB"


def test_a_full_disk_ends_the_command_in_one_line(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (small_disk / "filler").write_bytes(bytes((1 << 20) - 8192))
    names = []
    for index in range(3):
        names.append(small_disk.with_name(f"{index}.jpg"))
        names[-1].write_bytes(grey_jpeg(index, 900, 600))
    assert run(["photo", *map(str, names), "-o", str(small_disk / "out")]) == EXIT_FAULT
    shown = capsys.readouterr()

    assert shown.out == ""
    full = f"error: {small_disk / 'out/0.jpg'}: no space left on device"
    assert shown.err == f"{full}; files written before are complete\n"
    assert run(["export", "default", "-o", str(small_disk / "model.safetensors")]) == EXIT_FAULT
    assert capsys.readouterr().err == f"error: {small_disk / 'model.safetensors'}: no space left on device\n"
