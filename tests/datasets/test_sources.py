"""Sources: planning, fetching, and which errors are rows and which are usage errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from colorize.datasets import readers
from colorize.datasets.settings import SourceSettings
from colorize.datasets.sources import _plan, open_source
from colorize.errors import UsageError
from colorize.imaging.settings import SizeLimits
from colorize.storage import grouped
from colorize.storage.listing import Entry
from colorize.storage.root import Storage
from tests.conftest import write_tree
from tests.datasets.reading import SETTINGS, fetch


def test_a_folder_is_read_with_every_file_in_it(tmp_path: Path) -> None:
    files = {f"box {i}/scan {j}.jpg": f"{i}{j}".encode() for i in range(3) for j in range(3)} | {"notes.txt": b"n"}
    write_tree(tmp_path, files)
    source = open_source(str(tmp_path), SETTINGS)

    assert source.total == 10
    assert {raw.path: raw.data for raw in fetch(source)} == files
    assert all(raw.identity and raw.size == len(raw.data) for raw in fetch(source))


def test_outputs_of_an_earlier_run_are_not_inputs(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"a", "_colorize/manifest/part-0.parquet": b"p", "_colorize/run.json": b"{}"})

    assert [raw.path for raw in fetch(open_source(str(tmp_path), SETTINGS))] == ["a.jpg"]


def test_a_single_image_is_an_input(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"a", "b.jpg": b"b"})
    source = open_source(str(tmp_path / "b.jpg"), SETTINGS)

    assert [(raw.path, raw.data) for raw in fetch(source)] == [("b.jpg", b"b")]


def test_an_unreadable_file_is_a_failed_row(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"a"})
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    gone = {raw.path: raw for raw in fetch(open_source(str(tmp_path), SETTINGS))}["gone.jpg"]

    assert gone.error == "unreadable"
    assert "No such file" in gone.message


def test_a_name_that_is_not_utf_8_is_a_failed_row(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"a"})
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.jpg")).write_bytes(b"m")
    rows = {raw.path: raw.error for raw in fetch(open_source(str(tmp_path), SETTINGS))}

    assert rows == {"a.jpg": "", "M\\xfcller.jpg": "bad_name"}


def test_a_step_holds_few_large_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "FETCH_BYTES", 100)
    write_tree(tmp_path, {f"{i}.jpg": bytes(60) for i in range(3)})
    source = open_source(str(tmp_path), SETTINGS)

    assert [len(raws) for raws in source.reader.fetch(source.units)] == [1, 1, 1]


@pytest.mark.parametrize(
    "name",
    [
        "@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "1931/@eaDir/b.jpg", ".thumbnails/c.png", ".Trash-1000/files/d.jpg",
        "#recycle/e.jpg", "@Recycle/f.jpg", "$RECYCLE.BIN/g.jpg", ".@__thumb/h.jpg", "__MACOSX/a/._i.jpg", "Thumbs.db",
        ".nomedia", ".picasa.ini", "Picasa.ini", ".DS_Store", "desktop.ini", "._j.jpg", "._k.parquet", "l.jpg.xmp",
        "m.thm",
        ".colorize-1234", "lost+found/n.jpg", ".part-0.parquet.crc", "o.jpg@SynoEAStream",
    ],
)  # fmt: skip
def test_system_files_are_excluded(tmp_path: Path, name: str) -> None:
    kept = {"scan.jpg": b"s", ".scan.jpg": b"an image all the same", "#12/@home/a.jpg": b"s", "notes.txt": b"n"}
    write_tree(tmp_path, {**kept, name: b"l"})
    rows = {raw.path: raw for raw in fetch(open_source(str(tmp_path), SETTINGS))}

    assert {path for path, raw in rows.items() if not raw.error} == set(kept)
    assert (rows[name].skipped, rows[name].error, bool(rows[name].message)) == (True, "excluded", True)


def test_exclude_patterns_can_be_set(tmp_path: Path) -> None:
    write_tree(tmp_path, dict.fromkeys(("a/1.jpg", "a/1_thumb.jpg", "a/2.tif", "b/3.jpg"), b"p"))
    settings = SourceSettings(include=("a/*",), exclude=("*_thumb.jpg", "*.tif"))
    rows = {raw.path: raw.message for raw in fetch(open_source(str(tmp_path), settings))}

    assert rows == {
        "a/1.jpg": "",
        "a/1_thumb.jpg": "matches source.exclude (*_thumb.jpg, *.tif)",
        "a/2.tif": "matches source.exclude (*_thumb.jpg, *.tif)",
        "b/3.jpg": "matches none of source.include (a/*)",
    }


def test_a_link_to_a_folder_is_skipped_without_a_failure(tmp_path: Path) -> None:
    write_tree(tmp_path, {"in/a.jpg": b"a", "elsewhere/b.jpg": b"b"})
    (tmp_path / "in/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/circle").symlink_to(tmp_path / "in")
    (tmp_path / "in/c.jpg").symlink_to("a.jpg")
    rows = {raw.path: raw for raw in fetch(open_source(str(tmp_path / "in"), SETTINGS))}

    assert {path: (raw.data, raw.error) for path, raw in rows.items()} == {
        "a.jpg": (b"a", ""),
        "c.jpg": (b"a", ""),
        "more": (b"", "excluded"),
        "circle": (b"", "excluded"),
    }
    assert "a link to a folder" in rows["more"].message


def test_names_that_collide_after_adding_suffixes_are_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped, "GROUP_ROWS", 2)
    write_tree(tmp_path, dict.fromkeys(("a.gif", "b/scan", "b/scan.png", "c.png", "c.png.png", "z.gif.png"), b"p"))
    rows = {raw.path: raw.name_taken for raw in fetch(open_source(str(tmp_path), SETTINGS))}

    assert {path for path, taken in rows.items() if taken} == {"b/scan", "c.png"}


def test_files_that_match_no_pattern_are_skipped_rows(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a/1.jpg": b"1", "a/1.xmp": b"x", "Thumbs.db": b"t", "a/._1.jpg": b"m"})
    settings = SourceSettings(include=("*.jpg",))
    rows = {raw.path: raw for raw in fetch(open_source(str(tmp_path), settings))}

    assert {path: (row.skipped, row.error) for path, row in rows.items()} == {
        "a/1.jpg": (False, ""),
        "a/1.xmp": (True, "excluded"),
        "Thumbs.db": (True, "excluded"),
        "a/._1.jpg": (True, "excluded"),
    }


def test_an_empty_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no files"):
        open_source(str(tmp_path), SETTINGS)


def test_a_key_that_escapes_the_bucket_is_a_failed_row(tmp_path: Path) -> None:
    class Bucket(Storage):
        """Lists a name that is invalid on disk."""

        def pages(self, below: str = "") -> Iterator[list[Entry]]:
            yield [Entry("a/../../b.jpg", 3, "tag")]

    source = _plan(Bucket(tmp_path), None, SETTINGS, SizeLimits())

    assert [(raw.path, raw.error) for raw in fetch(source)] == [("a/../../b.jpg", "bad_name")]
