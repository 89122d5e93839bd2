"""Storage: names, atomic writes, listings, and actionable errors."""

from __future__ import annotations

import errno
import os
import pickle
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from botocore.exceptions import NoCredentialsError
from s3fs import S3FileSystem

from colorize.datasets.hints import read_hints
from colorize.errors import UsageError
from colorize.imaging.formats import FileBytes, ImageDecodeError
from colorize.predict.model_files import find_model
from colorize.storage import root as module
from colorize.storage.root import Storage, overlap
from tests.conftest import S3, free_ports, write_tree

MOST = 1 << 30  # bytes of a file that is read


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty root, on disk and in a bucket, with the same expected behavior."""
    if request.param == "local":
        return Storage(tmp_path / "root")
    request.getfixturevalue("s3")
    return Storage(f"s3://scans/{secrets.token_hex(6)}")


AWKWARD = ["a b.jpg", "über, straße.png", "x#1?.tif", "100%/%41+é.jpg", "deep/er/[x]*.jpg", "no_suffix"]


@pytest.mark.parametrize("name", AWKWARD)
def test_files_of_any_name_round_trip(root: Storage, name: str) -> None:
    root.write(name, b"first")
    root.write(name, b"second")

    assert root.read(name) == b"second"
    assert [entry.name for entry in root.entries()] == [name]
    assert root.entry(name).size == 6


def test_a_failed_write_leaves_nothing(root: Storage) -> None:
    root.write("kept", b"old")
    with pytest.raises(RuntimeError), root.create("kept") as file:
        file.write(b"half of the new cont")
        raise RuntimeError("cut off")

    assert root.read("kept") == b"old"
    assert [entry.name for entry in root.entries()] == ["kept"]


def test_a_changed_file_has_a_new_identity(root: Storage) -> None:
    root.write("a", b"one")
    before = root.entry("a").identity
    root.write("a", b"two!")

    assert before
    assert root.entry("a").identity != before
    assert next(iter(root.entries())).identity == root.entry("a").identity


def test_deleting_a_missing_file_is_not_an_error(root: Storage) -> None:
    root.delete("nothing")
    root.delete_tree("nothing/either")


def test_deleting_a_tree_keeps_its_siblings(root: Storage) -> None:
    write = root.write
    write("a*/1", b"1"), write("a*/b/2", b"2"), write("ab/3", b"3")
    root.delete_tree("a*")

    assert [entry.name for entry in root.entries()] == ["ab/3"]


def test_a_pickled_storage_contains_no_credentials(root: Storage) -> None:
    root.write("a", b"x")
    frozen = pickle.dumps(root)

    assert b"test-key" not in frozen
    assert pickle.loads(frozen).read("a") == b"x"


def test_everything_in_a_tree_is_listed_in_order(tmp_path: Path) -> None:
    write_tree(tmp_path, {"b/2": b"", "a/1": b"", "c": b""})
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")

    assert [entry.name for entry in Storage(tmp_path).entries()] == ["a/1", "b/2", "c", "dangling", "pipe"]
    with pytest.raises(OSError, match="not a regular file"):
        Storage(tmp_path).read("pipe")


@pytest.mark.parametrize("uri", ["", "s3://", "nothing://bucket/x"])
def test_an_empty_uri_is_refused(uri: str) -> None:
    with pytest.raises(UsageError, match=r"is not a folder|unknown protocol"):
        Storage(uri)


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"scans: it does not exist"):
        Storage(tmp_path / "scans").is_file()


def test_a_missing_bucket_is_named(s3: S3) -> None:
    with pytest.raises(UsageError, match=r"s3://no-such-bucket"):
        Storage("s3://no-such-bucket/scans").is_file()


def test_wrong_credentials_are_denied_access(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    Storage("s3://scans/x").write("a.jpg", b"there")
    S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    try:
        with pytest.raises(UsageError, match="access refused"):
            Storage("s3://scans/x").is_file()
        with pytest.raises(UsageError, match="access refused"):
            Storage("s3://colored/x").check_writable()
    finally:
        S3FileSystem.clear_instance_cache()


@pytest.mark.slow
def test_an_unreachable_endpoint_is_named_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    started = time.monotonic()
    try:
        with pytest.raises(UsageError, match="s3://scans"):
            Storage("s3://scans/x").is_file()
    finally:
        S3FileSystem.clear_instance_cache()
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("read", [read_hints, find_model, lambda uri: find_model(f"eccv16={uri}")])
def test_an_inaccessible_object_is_a_usage_error(
    read: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many of a storage library's errors are not OSErrors."""

    def refuse(storage: Storage, name: str) -> NoReturn:
        raise NoCredentialsError

    monkeypatch.setattr(Storage, "read", refuse)
    monkeypatch.setattr(Storage, "entry", refuse)
    monkeypatch.setattr(Storage, "is_file", lambda storage: True)
    with pytest.raises(UsageError, match=r"s3://scans/file.*no keys: set AWS_ACCESS_KEY_ID"):
        read("s3://scans/file")


@pytest.mark.parametrize("read", [read_hints, lambda uri: find_model(f"eccv16={uri}")])
def test_a_missing_object_is_reported_as_missing(read: Callable[[str], object], s3: S3) -> None:
    with pytest.raises(UsageError, match=r"No such file.*s3://scans/file"):
        read("s3://scans/file")


def test_an_unresponsive_endpoint_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.2)
    storage = Storage("/")
    with pytest.raises(UsageError, match="no answer"):
        storage._probe(lambda: time.sleep(5))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("/x/in", "/x/out", False),
        ("/x/in", "/x/in", True),
        ("/x/in", "/x/in/out", True),
        ("/x/in/deep", "/x/in", True),
        ("/x/in", "/x/input", False),
        ("s3://b/in", "s3://b/in/out", True),
        ("s3://b/in/", "s3://b/in", True),
        ("s3://b/in", "/b/in", False),
        ("s3a://b/in", "s3://b/in/out", True),
    ],
)
def test_overlap(a: str, b: str, expected: bool) -> None:
    assert overlap(Storage(a), Storage(b)) is expected


def test_overlap_sees_through_links(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")

    assert overlap(Storage(tmp_path / "in"), Storage(tmp_path / "link" / "out"))


@pytest.mark.parametrize("name", ["../out.jpg", "a/../../out.jpg", "/../out.jpg", "", "a/\0.jpg", ".."])
def test_nothing_is_written_outside_the_root(root: Storage, name: str) -> None:
    with pytest.raises(OSError, match="not a valid name of a file below"):
        root.write(name, b"x")
    with pytest.raises(OSError, match="not a valid name of a file below"), root.create(name) as file:
        file.write(b"x")
    with pytest.raises(OSError, match="not a valid name of a file below"):
        root.delete(name)


@pytest.mark.parametrize("name", ["a//b.jpg", "a/./b.jpg", "./a.jpg", "/etc/a.jpg", "//a.jpg", "a.jpg/"])
def test_keys_that_would_share_a_file_on_disk_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match="not a valid name of a file below"):
        Storage(tmp_path).write(name, b"x")
    with pytest.raises(OSError, match="not a valid name of a file below"), Storage(tmp_path).create(name) as file:
        file.write(b"x")
    with pytest.raises(OSError, match="not a valid name of a file below"):
        Storage(tmp_path).delete(name)


def test_links_within_the_root_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/box").symlink_to(tmp_path / "scans")
    (tmp_path / "scans/a.jpg").write_bytes(b"scan")
    with pytest.raises(OSError, match="remove the link"):
        Storage(tmp_path / "out").write("box/a.jpg", b"color")
    (tmp_path / "out/b.jpg").symlink_to(tmp_path / "scans/a.jpg")
    Storage(tmp_path / "out").write("b.jpg", b"color")  # replaces the link, not its target

    assert (tmp_path / "scans/a.jpg").read_bytes() == b"scan"
    assert (tmp_path / "out/b.jpg").read_bytes() == b"color"


def test_large_objects_are_spooled_to_a_local_file(root: Storage) -> None:
    root.write("scan.tif", b"0123456789")
    held, file, unknown = (
        root.load("scan.tif", 10, 10, MOST),
        root.load("scan.tif", 10, 9, MOST),
        root.load("scan.tif", -1, 10, MOST),
    )

    assert held == unknown == b"0123456789"
    assert isinstance(file, FileBytes)
    assert file[2:5] == b"234"
    assert file.owned == (not root.is_local)


@pytest.mark.parametrize("listed", [10, 3, -1])
@pytest.mark.parametrize("most", [0, 9, 100])
def test_files_above_the_limit_are_not_read(root: Storage, listed: int, most: int) -> None:
    """Regardless of the listed size, which may be outdated."""
    root.write("scan.tif", b"0123456789")
    with pytest.raises(ImageDecodeError, match=r"10 bytes, the limit is 9: raise limits\.max_bytes") as caught:
        root.load("scan.tif", listed, most, 9)
    assert caught.value.code == "too_large"
    assert root.load("scan.tif", listed, most, 10)[:] == b"0123456789"


def test_an_unknown_size_is_found_without_reading_the_file(s3: S3) -> None:
    root = Storage(f"s3://scans/{secrets.token_hex(6)}")
    root.write("scan.tif", b"0123456789")
    root.write("empty.tif", b"")
    large = root.load("scan.tif", -1, 9, MOST)

    assert isinstance(large, FileBytes)
    assert (large[0:4], large.owned) == (b"0123", True)
    assert root.load("empty.tif", -1, 9, MOST) == b""


def test_an_empty_object_is_read_although_s3_refuses_ranges(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, **limits: int) -> bytes:
        raise OSError(errno.EINVAL, "The requested range is not satisfiable")

    root = Storage(f"s3://scans/{secrets.token_hex(6)}")
    root.write("empty.tif", b"")
    root.write("scan.tif", b"0")
    monkeypatch.setattr(root.fs, "cat_file", refuse)

    assert root.load("empty.tif", -1, 9, MOST) == b""
    with pytest.raises(OSError, match="not satisfiable"):
        root.load("scan.tif", -1, 9, MOST)


def test_a_draft_is_published_atomically(root: Storage) -> None:
    draft = root.draft("deep/er.tif")
    with draft.open() as file:
        file.write(b"whole")
    assert [entry.name for entry in root.entries() if not entry.name.split("/")[-1].startswith(".")] == []
    root.publish(draft, "deep/er.tif")

    assert root.read("deep/er.tif") == b"whole"
    assert [entry.name for entry in root.entries()] == ["deep/er.tif"]
    assert not draft.path.exists()


def test_a_failed_publish_leaves_no_draft(tmp_path: Path) -> None:
    root = Storage(tmp_path)
    draft = root.draft("a.tif")
    with draft.open() as file:
        file.write(b"whole")
    (tmp_path / "a.tif").mkdir()
    with pytest.raises(IsADirectoryError):
        root.publish(draft, "a.tif")
    assert not draft.path.exists()


def test_a_failed_upload_leaves_no_draft(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    root = Storage("s3://colored/x")
    draft = root.draft("a.tif")
    try:
        with pytest.raises(PermissionError):
            root.publish(draft, "a.tif")
    finally:
        S3FileSystem.clear_instance_cache()
    assert not draft.path.exists()


def test_a_draft_may_write_its_header_last(root: Storage) -> None:
    with root.build("a.tif") as file:
        file.write(b"____rest")
        file.seek(0)
        file.write(b"head")
    with pytest.raises(RuntimeError), root.build("a.tif") as file:
        file.write(b"half")
        raise RuntimeError("cut off")

    assert root.read("a.tif") == b"headrest"
    assert [entry.name for entry in root.entries()] == ["a.tif"]


@pytest.mark.slow
def test_a_multipart_draft_is_uploaded_completely(s3: S3) -> None:
    root = Storage(f"s3://scans/{secrets.token_hex(6)}")
    draft = root.draft("huge.tif")
    with draft.open() as file:
        file.truncate(110 << 20)  # above the limit of a single PUT
    root.publish(draft, "huge.tif")

    assert root.entry("huge.tif").size == 110 << 20
    root.delete("huge.tif")


@pytest.mark.parametrize(
    "uri",
    ["generic://http://127.0.0.1/a.jpg", "simplecache::http://127.0.0.1/a.jpg", "http://127.0.0.1/a.jpg",
     "HTTPS://127.0.0.1/", "reference://x", "zip://a.jpg::http://127.0.0.1/a.zip", "dir::file:///etc", "github://a:b@c/",
     "sftp://host/a", "data:image/png;base64://AAAA"],
)  # fmt: skip
def test_protocols_that_reach_any_address_are_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="unknown protocol"):
        Storage(uri)


def test_protocols_are_case_insensitive(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"scan")
    assert Storage(f"FILE://{tmp_path}").read("a.jpg") == b"scan"
