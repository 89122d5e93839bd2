"""`colorize photo`: files and links in, colored copies out, no Ray, sources never touched."""

from __future__ import annotations

import functools
import http.server
import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from colorize.cli import EXIT_FAILURES, EXIT_USAGE, run
from tests.conftest import grey_jpeg


def test_pictures_go_into_a_folder_under_their_names(photo_folder: Path, tmp_path: Path) -> None:
    sources = [photo_folder / "grey.jpg", photo_folder / "1931/wide.png", photo_folder / "modern.webp"]
    assert run(["photo", *map(str, sources), "-o", str(tmp_path / "out")]) == 0

    for source in sources:
        colored = Image.open(tmp_path / "out" / source.name)
        assert colored.size == Image.open(source).size
        assert colored.convert("RGB").getcolors(3) is None  # more than three colors


def test_one_picture_can_be_given_a_name(photo_folder: Path, tmp_path: Path) -> None:
    assert run(["photo", str(photo_folder / "grey.jpg"), "-o", str(tmp_path / "mine.jpg")]) == 0
    assert (tmp_path / "mine.jpg").exists()


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
            """Says nothing: the tests look at stderr."""

    handler = functools.partial(Quiet, directory=str(photo_folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def test_a_link_is_fetched(web: str, tmp_path: Path) -> None:
    link = f"{web}/1931/K%C3%B6ln,%20Stra%C3%9Fe%20%233%20100%25.jpg"
    assert run(["photo", link, f"{web}/grey.jpg", "-o", str(tmp_path), "--allow-private"]) == 0

    assert {path.name for path in tmp_path.glob("*.jpg")} == {"Köln, Straße #3 100%.jpg", "grey.jpg"}


def test_a_private_address_is_not_asked(web: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["photo", f"{web}/grey.jpg", "-o", str(tmp_path / "out")]) == EXIT_FAILURES

    assert "private address 127.0.0.1: refused without --allow-private" in capsys.readouterr().err


def test_what_cannot_be_colored_is_said_and_the_rest_is_done(
    web: str, photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a/x.jpg", "b/x.jpg", "-o", "out"], "would both become"),
        (["x.jpg", "--model", "nope"], "unknown model 'nope'"),
        (["x.jpg", "--set", "colorizer.sise=1"], "did you mean 'colorizer.size'"),
        ([], "Missing argument"),
        (["x.jpg", "-o", "s3://bucket/x"], "use `colorize bulk`"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["photo", *arguments]) == EXIT_USAGE

    text = capsys.readouterr().err
    assert message in text
    assert text.count("\n") == 1


def test_it_needs_no_ray(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(grey_jpeg(1))
    code = (
        "import sys; from colorize.cli import run; status = run(['photo', 'a.jpg', '-o', 'b.jpg']); "
        "sys.exit(status or ('ray' in sys.modules and 9))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0
    assert Image.open(io.BytesIO((tmp_path / "b.jpg").read_bytes())).mode == "RGB"
