"""`colorize photo` on a folder: its tree is kept, and no copy lands in it or outside the output."""

from __future__ import annotations

from pathlib import Path

import pytest

from colorize.cli import EXIT_FAILURES, EXIT_USAGE, run
from tests.conftest import grey_jpeg, write_tree


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of valid images and system files, in the working directory."""
    files = {"a.jpg": grey_jpeg(1), "box 1/a.jpg": grey_jpeg(2), ".DS_Store": b"\0", "_colorize/run.json": b"{}"}
    write_tree(tmp_path / "scans", files)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "scans"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "where"),
    [(["scans"], "scans.colorized"), (["scans/"], "scans.colorized"), (["scans", "-o", "out"], "out")],
)
def test_the_images_in_a_folder_keep_its_tree(
    words: list[str], where: str, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(scans.rglob("*"))
    assert run(["photo", *words]) == 0

    said = capsys.readouterr()
    assert said.out.splitlines()[0] == "scans/.DS_Store: skipped: a hidden file"
    assert said.out.splitlines()[-1] == "2 images: 2 colored, 0 failed"
    assert said.err == ""
    assert {path.relative_to(where).as_posix() for path in Path(where).rglob("*.*")} == {"a.jpg", "box 1/a.jpg"}
    assert set(scans.rglob("*")) == before


def test_a_file_in_a_folder_that_is_not_an_image_fails(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scans / "notes.txt").write_text("no image")
    assert run(["photo", "scans", "-o", "out"]) == EXIT_FAILURES
    said = capsys.readouterr()
    assert said.err == "scans/notes.txt: no known image format (8 bytes)\n"
    assert said.out.splitlines()[-1] == "3 images: 2 colored, 1 failed"


@pytest.mark.slow
def test_links_in_a_folder_are_not_followed(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tree(scans.parent, {"private/secret.jpg": grey_jpeg(3)})
    (scans / "x.jpg").symlink_to("../private/secret.jpg")
    (scans / "more").symlink_to("../private")
    (scans / "again.jpg").symlink_to("a.jpg")
    assert run(["photo", "scans", "-o", "out"]) == EXIT_FAILURES
    said = capsys.readouterr()
    assert said.err == f"scans/x.jpg: it leads out of {scans}: replace the link by the file\n"
    assert "scans/more: skipped: a link to a folder" in said.out
    assert sorted(path.name for path in Path("out").rglob("*.jpg")) == ["a.jpg", "a.jpg", "again.jpg"]


@pytest.mark.slow
def test_copies_of_a_folder_stay_within_the_output(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("elsewhere", "out"):
        (scans.parent / name).mkdir()
    (scans.parent / "out/box 1").symlink_to("../elsewhere")
    assert run(["photo", "scans", "-o", "out"]) == EXIT_FAILURES
    assert "scans/box 1/a.jpg" in capsys.readouterr().err
    assert list((scans.parent / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["."], "the copies of . cannot go into {here}.colorized: choose an --output outside it"),
        (["scans", "-o", "scans/colored"], "the copies of scans cannot go into scans/colored: choose an --output"),
        (["scans", "-o", "."], "the copies of scans cannot go into .: choose an --output outside it"),
        (["scans", "-o", "out.jpg"], "--output out.jpg is a file; give a folder for 2 images"),
        (["empty"], "there are no files in empty: give images, or a folder with images"),
        (["scans", "scans/a.jpg", "-o", "out"], "would both become out/a.jpg: color them separately"),
    ],
)
def test_folder_usage_errors_are_one_line(
    words: list[str], message: str, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (scans.parent / "empty").mkdir()
    assert run(["photo", *words]) == EXIT_USAGE
    text = capsys.readouterr().err
    assert message.format(here=scans.parent.name) in text
    assert text.count("\n") == 1
    assert sorted(path.name for path in scans.parent.iterdir()) == ["empty", "scans"]
