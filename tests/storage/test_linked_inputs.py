"""Links among the inputs: targets outside the input are not read, hashed or measured by default."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from colorize.bulk.ledger.newest import read_manifest
from colorize.bulk.load import Loader, Stamp, load
from colorize.bulk.samples import SampleReader
from colorize.bulk.settings import TriageSettings
from colorize.cli import EXIT_FAILURES, run
from colorize.datasets.readers import Raw
from colorize.datasets.settings import SourceSettings
from colorize.datasets.sources import open_source
from colorize.imaging.canvas import Canvases
from colorize.imaging.sandbox import Sandbox
from colorize.imaging.settings import LimitSettings
from colorize.storage.root import Storage
from tests.conftest import grey_jpeg, write_tree

SECRET = b"password: hunter2, and some more that nobody should read"


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """One image, and links of all kinds."""
    folder = tmp_path / "scans"
    write_tree(tmp_path, {"secrets/key": SECRET, "secrets/b.jpg": grey_jpeg(2), "scans/box/a.jpg": grey_jpeg(1)})
    (folder / "inside.jpg").symlink_to("box/a.jpg")
    (folder / "secret.jpg").symlink_to(tmp_path / "secrets/key")
    (folder / "box/out.jpg").symlink_to("../../secrets/b.jpg")
    (folder / "folder").symlink_to(tmp_path / "secrets")
    (folder / "again").symlink_to("box")
    return folder


def fetch(folder: Path, settings: SourceSettings | None = None, listed: str | None = None) -> dict[str, Raw]:
    source = open_source(str(folder), settings or SourceSettings(), listed)
    return {raw.path: raw for raws in source.reader.fetch(source.units) for raw in raws}


def test_a_link_outside_the_input_fails_without_details(scans: Path) -> None:
    raws = fetch(scans)

    for name in ("secret.jpg", "box/out.jpg"):
        assert (raws[name].error, raws[name].skipped, raws[name].size, raws[name].data) == ("leads_out", False, 0, b"")
        assert raws[name].message == (
            f"it leads out of {scans}: replace the link by the file, or allow it with `follow_links`"
        )
        assert raws[name].identity == ""


def test_its_manifest_row_has_no_content_size_or_hash(scans: Path) -> None:
    source = open_source(str(scans), SourceSettings())
    loader = Loader(
        source.reader, LimitSettings(), TriageSettings(), Canvases(64, 32), 64**2, 1 << 20, Stamp("m", "", "", 1)
    )
    rows = {row["path"]: row for table in load(source.units, loader) for row in table.to_pylist()}

    secret = rows["secret.jpg"]
    assert (secret["status"], secret["error"]) == ("failed", "leads_out")
    assert (secret["bytes_in"], secret["sha256_in"], secret["identity"]) == (0, "", "")
    assert "hunter" not in str(secret)


def test_a_link_within_the_input_is_followed(scans: Path) -> None:
    assert fetch(scans)["inside.jpg"].data == grey_jpeg(1)


def test_a_link_to_a_folder_is_skipped(scans: Path) -> None:
    raws = fetch(scans)

    assert {name for name, raw in raws.items() if raw.skipped} == {"folder", "again"}
    assert {(raws[name].error, raws[name].message) for name in ("folder", "again")} == {
        ("excluded", "a link to a folder: its files are not inputs under this name")
    }


def test_follow_links_follows_links_everywhere(scans: Path) -> None:
    raws = fetch(scans, SourceSettings(follow_links=True))

    assert raws["secret.jpg"].data == SECRET
    assert raws["box/out.jpg"].data == grey_jpeg(2)
    assert raws["folder"].skipped


def test_a_list_cannot_name_files_behind_a_link(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("folder/key\nsecret.jpg\nagain/a.jpg\nfolder\nbox/a.jpg\n")
    raws = fetch(scans, listed=str(tmp_path / "list.txt"))

    assert {name: raw.error for name, raw in raws.items()} == {
        "folder/key": "leads_out",
        "secret.jpg": "leads_out",
        "again/a.jpg": "",
        "folder": "excluded",
        "box/a.jpg": "",
    }
    assert raws["secret.jpg"].size == raws["folder/key"].size == -1


def test_an_image_given_as_the_input_may_be_a_link(scans: Path) -> None:
    assert fetch(scans / "box/out.jpg")["out.jpg"].data == grey_jpeg(2)


def test_the_input_folder_may_be_a_link(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(scans)

    assert fetch(tmp_path / "link")["box/a.jpg"].data == grey_jpeg(1)


def test_an_archive_that_is_a_link_counts_by_itself(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for name in ("in/a.parquet", "elsewhere/b.parquet"):
        pq.write_table(pa.table({"image": [grey_jpeg(1)]}), tmp_path / name)
    (tmp_path / "in/b.parquet").symlink_to(tmp_path / "elsewhere/b.parquet")
    (tmp_path / "in/c.parquet").symlink_to(tmp_path / "elsewhere")
    raws = fetch(tmp_path / "in")

    assert {name: (raw.error, raw.skipped) for name, raw in raws.items()} == {
        "a.parquet#0": ("", False),
        "b.parquet": ("leads_out", False),
        "c.parquet": ("excluded", True),
    }
    assert fetch(tmp_path / "in", SourceSettings(follow_links=True))["b.parquet#0"].data == grey_jpeg(1)


@pytest.mark.parametrize("name", ["../secrets/key", "box/../../secrets/key", "folder/key"])
def test_names_that_escape_the_input_are_not_read(name: str, scans: Path) -> None:
    storage = Storage(scans)
    for read in (storage.read, storage.open, lambda name: storage.load(name, 10, 1, 100)):
        with pytest.raises(OSError, match="leads out of"):
            read(name)


def test_a_report_shows_no_image_outside_the_input(scans: Path, tmp_path: Path) -> None:
    write_tree(tmp_path / "out", {"a.jpg": grey_jpeg(3)})
    row = {"path": "box/a.jpg", "output": "../secrets/b.jpg", "bytes_in": 9, "bytes_out": 9, "width": 8, "height": 8}

    with Sandbox(limits := LimitSettings()) as sandbox:
        reader = SampleReader(Storage(scans), Storage(tmp_path / "out"), "image", limits, sandbox)
        assert reader.sample(row) is None
        assert reader.sample(row | {"output": "a.jpg", "format": "JPEG"}) is not None


@pytest.mark.slow
def test_restoring_a_folder_skips_links_that_lead_out(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["restore-grey", str(scans), "-o", str(tmp_path / "grey"), "--force"]) == EXIT_FAILURES
    out, err = capsys.readouterr()

    assert f"{scans}/secret.jpg: it leads out of {scans}" in err
    assert f"{scans}/again: skipped: a link to a folder" in out
    assert sorted(path.name for path in (tmp_path / "grey").rglob("*.jpg")) == ["a.jpg", "inside.jpg"]


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_a_run_reports_skipped_links_each_time(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["bulk", "--input", str(scans), "--output", str(tmp_path / "out"), "--set", "colorizer.size=64"]
    (scans / "secret.jpg").unlink()
    (scans / "box/out.jpg").unlink()
    assert run(words) == 0  # links to folders are not failures
    monkeypatch.setattr("colorize.bulk.job.ray_session", None)
    assert run(words) == 0

    rows = {row["path"]: (row["status"], row["error"]) for row in read_manifest(Storage(tmp_path / "out")).to_pylist()}
    assert rows == {
        "box/a.jpg": ("ok", ""),
        "inside.jpg": ("ok", ""),
        "folder": ("skipped", "excluded"),
        "again": ("skipped", "excluded"),
    }


def test_no_message_contains_content(tmp_path: Path) -> None:
    write_tree(tmp_path, {"key.jpg": SECRET})
    source = open_source(str(tmp_path), SourceSettings())
    loader = Loader(
        source.reader, LimitSettings(), TriageSettings(), Canvases(64, 32), 64**2, 1 << 20, Stamp("m", "", "", 1)
    )
    (row,) = (row for table in load(source.units, loader) for row in table.to_pylist())

    assert (row["error"], row["message"]) == ("not_an_image", f"no known image format ({len(SECRET)} bytes)")


def test_a_linked_run_record_is_ignored(scans: Path) -> None:
    entries = {entry.name: entry._asdict() for entry in Storage(scans).entries()}

    assert entries["secret.jpg"] == {"name": "secret.jpg", "size": 0, "identity": ""}
    assert Storage(scans).entry("secret.jpg").size == 0
    assert entries["inside.jpg"]["size"] == len(grey_jpeg(1))
