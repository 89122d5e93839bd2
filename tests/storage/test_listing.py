"""Listing: every object of a bucket and every file of a tree once, in bounded memory."""

from __future__ import annotations

import secrets
import threading
import tracemalloc
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.hooks import HierarchicalEmitter
from hypothesis import given
from hypothesis import strategies as st

from colorize.datasets.settings import SourceSettings
from colorize.datasets.sources import open_source
from colorize.imaging.formats import disk_name
from colorize.storage import listing
from colorize.storage.bucket import Bucket, middle
from colorize.storage.root import Storage
from tests.conftest import S3, write_tree
from tests.flat_bucket import FlatServer, Objects, flat_server

ODD = {"x//y.jpg": b"1", "x/y.jpg": b"2", "//top.jpg": b"3", "/lead.jpg": b"4", "folder/": b"bytes", "plain.jpg": b"5"}


class Keys:
    """A file system that lists like S3; with `skips` it omits a folder, as SeaweedFS does."""

    req_kw: dict[str, Any] = {}  # noqa: RUF012
    s3 = SimpleNamespace(meta=SimpleNamespace(events=HierarchicalEmitter()))  # a client, as far as it is used

    def __init__(self, keys: list[str], skips: bool = False, short: int = 1000) -> None:
        self.keys = sorted(keys)
        self.skips = skips
        self.short = short  # the maximum page size, regardless of the request
        self.asked = 0

    def call_s3(
        self, name: str, Bucket: str, Prefix: str, MaxKeys: int, StartAfter: str = "", ContinuationToken: str = ""
    ) -> dict[str, Any]:
        assert name == "list_objects_v2"
        self.asked += 1
        after = ContinuationToken or StartAfter
        below = [key for key in self.keys if key.startswith(Prefix)]
        start = bisect_right(below, after)
        if self.skips and StartAfter and StartAfter not in below:
            while start < len(below) and below[start].startswith(f"{StartAfter}/"):
                start += 1
        count = min(MaxKeys, self.short)
        some = below[start : start + count]
        more = len(below) > start + count
        contents = [{"Key": key, "Size": 1, "ETag": '"e"'} for key in some]
        return {"Contents": contents, "IsTruncated": more} | ({"NextContinuationToken": some[-1]} if more else {})


def listed(keys: list[str], page: int = 3, serial: int = 1, threads: int = 4, **server: Any) -> list[str]:
    bucket = Bucket(Keys(keys, **server), "scans", "", page, serial, threads)
    return [entry.name for entries in bucket.pages(0) for entry in entries]


names = st.text("ab/019~zé\ud7ff\U0001f600", min_size=1, max_size=8).filter(lambda name: not name.endswith("/"))


@pytest.mark.slow
@given(st.lists(names, unique=True, max_size=60), st.booleans(), st.integers(1, 5))
def test_every_key_is_listed_once_in_ranges(keys: list[str], skips: bool, short: int) -> None:
    assert sorted(listed(keys, skips=skips, short=short)) == sorted(keys)


@pytest.mark.parametrize(
    "key",
    [
        lambda i: f"scan-{i:06d}.jpg",
        lambda i: f"archive/box-{i % 37}/{i}.jpg",
        lambda i: f"{i * 2654435761 % 2**32:08x}/{i}.jpg",
        lambda i: f"same/{'long' * 50}/{i:05d}/a.jpg",
    ],
    ids=["flat", "folders", "hashed", "deep"],
)
def test_keys_are_divided_among_threads(key: Any) -> None:
    keys = [key(i) for i in range(4000)]
    busy: dict[int, int] = {}

    class Watched(Keys):
        def call_s3(self, *args: Any, **options: Any) -> dict[str, Any]:
            answer = super().call_s3(*args, **options)
            if options["MaxKeys"] > 1:
                threading.Event().wait(0.005)
                busy[threading.get_ident()] = busy.get(threading.get_ident(), 0) + len(answer["Contents"])
            return answer

    bucket = Bucket(Watched(keys), "scans", "", 20, 2, 4)
    found = [entry.name for entries in bucket.pages(0) for entry in entries]

    assert sorted(found) == sorted(keys)
    assert len(found) == len(keys)
    assert max(busy.values()) < 0.6 * len(keys)


def test_a_midpoint_is_a_key_between() -> None:
    keys = [f"1931/{i:04d}.jpg" for i in range(1000)]

    def ask(after: str, count: int) -> list[str]:
        start = bisect_right(keys, after)
        return keys[start : start + count]

    assert middle(ask, "1931/0000.jpg", None) in keys[300:800]
    assert middle(ask, keys[-2], keys[-1]) is None
    assert middle(ask, keys[-1], None) is None


def test_a_server_without_order_is_listed_page_by_page() -> None:
    class Unordered(Keys):
        def __init__(self, keys: list[str]) -> None:
            super().__init__(keys)
            self.keys = keys

        def call_s3(self, *args: Any, **options: Any) -> dict[str, Any]:
            assert not options.get("StartAfter")
            start = int(options.get("ContinuationToken") or 0)
            stop = start + options["MaxKeys"]
            contents = [{"Key": key, "Size": 1, "ETag": "e"} for key in self.keys[start:stop]]
            return {"Contents": contents, "IsTruncated": stop < len(self.keys), "NextContinuationToken": str(stop)}

    keys = ["b", "a", "d", "c", "f", "e", "h"]
    bucket = Bucket(Unordered(keys), "express", "", 2, 1, 4)

    assert [entry.name for entries in bucket.pages(0) for entry in entries] == keys


def test_an_error_in_one_range_ends_the_listing() -> None:
    class Broken(Keys):
        def call_s3(self, *args: Any, **options: Any) -> dict[str, Any]:
            if options.get("StartAfter", "") > "scan-2":
                raise PermissionError("access denied")
            return super().call_s3(*args, **options)

    with pytest.raises(PermissionError, match="access denied"):
        list(Bucket(Broken([f"scan-{i:04d}" for i in range(4000)]), "scans", "", 20, 2, 4).pages(0))


def test_an_abandoned_listing_ends_its_threads() -> None:
    pages = Bucket(Keys([f"scan-{i:05d}" for i in range(4000)]), "scans", "", 5, 2, 4).pages(0)
    for _ in range(5):
        next(pages)
    pages.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.name == "listing":
            thread.join(10)

    assert not [thread for thread in threading.enumerate() if thread.name == "listing"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_keys() -> None:
    class Endless(Keys):
        """Generates its keys."""

        def __init__(self, total: int) -> None:
            super().__init__([])
            self.total = total

        def call_s3(self, *args: Any, **options: Any) -> dict[str, Any]:
            after = options.get("ContinuationToken") or options.get("StartAfter") or "0" * 9
            digits = "".join(c for c in after.removesuffix(listing_end) if c.isdigit())[:9]
            start = int(digits.ljust(9, "9" if len(digits) < 9 else "0")) + 1
            stop = min(start + options["MaxKeys"], self.total)
            contents = [{"Key": f"{i:09d}", "Size": 1, "ETag": "e"} for i in range(start, stop)]
            return {"Contents": contents, "IsTruncated": stop < self.total, "NextContinuationToken": f"{stop - 1:09d}"}

    listing_end = "\U0010ffff"

    def peak(total: int) -> tuple[int, int]:
        tracemalloc.start()
        count = sum(len(page) for page in Bucket(Endless(total), "s", "", 100, 2, 4).pages(0))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return count, most

    small, large = peak(10_000), peak(40_000)
    assert (small[0], large[0]) == (9_999, 39_999)
    assert large[1] < 1.5 * small[1]


@pytest.fixture
def flat() -> Iterator[FlatServer]:
    with flat_server() as server:
        yield server


def test_every_object_with_bytes_has_a_row(flat: FlatServer) -> None:
    root = f"s3://{secrets.token_hex(6)}"
    storage = Storage(root)
    for key, data in (ODD | {"marker/": b""}).items():
        flat.buckets.setdefault(storage.root, Objects()).put(key, data)
    source = open_source(root, SourceSettings())
    rows = [raw for block in source.blocks() for raws in source.reader.fetch(block) for raw in raws]

    assert sorted(raw.path for raw in rows) == sorted(ODD)
    assert {raw.path: raw.data for raw in rows} == ODD
    assert not any(raw.error for raw in rows)


@pytest.mark.parametrize("prefix", ["", "/copies"])
def test_a_copy_in_a_bucket_has_the_key_of_its_source(flat: FlatServer, prefix: str) -> None:
    storage = Storage(f"s3://{secrets.token_hex(6)}{prefix}")
    for key, data in ODD.items():
        storage.write(key, data)

    assert {entry.name: entry.size for entry in storage.entries()} == {key: len(data) for key, data in ODD.items()}
    assert {key: storage.read(key) for key in ODD} == ODD


def test_a_copy_on_disk_has_a_generated_name_if_its_key_is_not_a_path(tmp_path: Path) -> None:
    names = {key: disk_name(key) for key in (*ODD, "a/./b.jpg", "a/b.jpg", "/", ".hidden/c")}
    for name in names.values():
        Storage(tmp_path).write(name, b"x")

    assert sorted(entry.name for entry in Storage(tmp_path).entries()) == sorted(names.values())
    assert {key for key, name in names.items() if key == name} == {"x/y.jpg", "plain.jpg", "a/b.jpg", ".hidden/c"}
    assert names["//top.jpg"].startswith("top~") and names["//top.jpg"].endswith(".jpg")


def test_a_prefix_in_a_bucket_is_listed_alone(flat: FlatServer) -> None:
    bucket = secrets.token_hex(6)
    for key in ("in/a.jpg", "in//b.jpg", "input/c.jpg", "in"):
        flat.buckets.setdefault(bucket, Objects()).put(key, b"x")

    assert [entry.name for entry in Storage(f"s3://{bucket}/in").entries()] == ["/b.jpg", "a.jpg"]


@pytest.mark.slow
def test_listing_in_ranges_equals_listing_in_order(s3: S3) -> None:
    root = Storage(f"s3://scans/{secrets.token_hex(6)}")
    names = [f"{i % 5}/scan-{i:03d}.jpg" for i in range(120)]
    for name in names:
        root.write(name, b"x")
    bucket, _, prefix = root.root.partition("/")
    pages = Bucket(root.fs, bucket, f"{prefix}/", 7, 2, 4).pages(len(prefix) + 1)

    assert sorted(entry.name for page in pages for entry in page) == sorted(names)
    assert [entry.name for entry in root.entries()] == sorted(names)


def test_a_huge_folder_is_listed_in_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "SORTED", 7)
    names = [f"{i:03d}.jpg" for i in range(50)]
    write_tree(tmp_path, {**dict.fromkeys(names, b"x"), "sub/a.jpg": b"y"})

    assert sorted(entry.name for entry in Storage(tmp_path).entries()) == sorted([*names, "sub/a.jpg"])
