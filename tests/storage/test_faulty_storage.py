"""Storage that refuses, truncates and stalls: transient errors are retried, permanent ones and full disks are not."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from benchmarks.chaos import bulk, contents
from colorize.bulk.ledger.manifest import Record
from colorize.bulk.ledger.newest import read_manifest
from colorize.bulk.sinks import FolderSink, ImageResult
from colorize.imaging.formats import sha256
from colorize.storage.faults import storage_exhausted
from colorize.storage.root import Storage
from tests.conftest import S3, free_ports, grey_jpeg
from tests.faulty_proxy import FaultyProxy, running


@pytest.fixture
def proxy(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """The S3 server behind a proxy that injects no faults yet."""
    faulty = FaultyProxy(s3.endpoint)
    with running(faulty, free_ports(1)[0]) as endpoint:
        S3FileSystem.clear_instance_cache()
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        yield faulty
    S3FileSystem.clear_instance_cache()


@pytest.mark.slow
def test_refused_requests_and_truncated_responses_are_retried(proxy: FaultyProxy) -> None:
    proxy.refuse, proxy.cut = 0.25, 0.25
    storage = Storage("s3://scans/faulty")
    content = {f"{i}.bin": bytes([i]) * 5000 for i in range(30)}
    for name, data in content.items():
        storage.write(name, data)

    assert {name: storage.read(name) for name in content} == content
    assert sorted(entry.name for entry in storage.entries()) == sorted(content)
    assert proxy.seen["refused"] > 5
    assert proxy.seen["cut"] > 3


def test_a_missing_object_is_requested_once(proxy: FaultyProxy) -> None:
    storage = Storage("s3://scans/faulty")
    storage.write("there.jpg", b"x")  # so that the client is connected
    before = proxy.seen["requests"]
    with pytest.raises(FileNotFoundError):
        storage.read("nothing.jpg")

    assert proxy.seen["requests"] - before == 1


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_a_job_over_a_faulty_connection_loses_nothing(proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in twenty requests refused, one in twenty responses truncated, in processes that only know the proxy."""
    source, target = "s3://scans/through", "s3://colored/through"
    for i in range(60):
        Storage(source).write(f"{i}.jpg", grey_jpeg(i))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    proxy.refuse, proxy.cut, proxy.delay = 0.05, 0.05, 0.02
    done = subprocess.run(
        bulk(source, target, "--set", "colorizer.size=64"), capture_output=True, text=True, check=False
    )
    proxy.refuse = proxy.cut = 0

    assert done.returncode == 0, done.stderr
    rows = read_manifest(Storage(target)).to_pylist()
    assert {row["path"]: row["status"] for row in rows} == {f"{i}.jpg": "ok" for i in range(60)}
    assert contents(Storage(target)) == {row["output"]: row["sha256_out"] for row in rows}
    assert proxy.seen["refused"] > 3
    assert proxy.seen["cut"] > 0


def test_a_full_disk_fails_no_image_and_leaves_no_partial_file(small_disk: Path) -> None:
    sink = FolderSink(Storage(small_disk), threads=2)
    images = [ImageResult(Record(f"{i}.jpg", f"{i}.jpg"), bytes(200_000)) for i in range(8)]
    with pytest.raises(OSError, match="No space left") as caught:
        sink.write(images)

    assert "no space left on device" in storage_exhausted(caught.value)
    assert {path.stat().st_size for path in small_disk.iterdir()} == {200_000}


def test_an_error_of_one_file_is_not_a_full_disk() -> None:
    assert not storage_exhausted(PermissionError(errno.EACCES, os.strerror(errno.EACCES), "a.jpg"))
    assert storage_exhausted(OSError(errno.EROFS, os.strerror(errno.EROFS), "a.jpg")) == "a.jpg: read-only file system"


@pytest.mark.parametrize("wrap", ["cause", "__cause__", "__context__", "text", "twice"])
def test_a_full_disk_is_recognized_inside_ray_errors(wrap: str) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/a.jpg")
    outer = RuntimeError(f"ray::write() failed\n  File x\nOSError: {full}" if wrap == "text" else "a task failed")
    if wrap == "twice":
        inner = RuntimeError("user code failed")
        inner.__cause__ = full
        outer.__dict__["cause"] = inner
    elif wrap != "text":
        setattr(outer, wrap, full)

    assert storage_exhausted(outer) == "out/a.jpg: no space left on device"


def test_an_interrupted_download_of_a_huge_image_resumes(proxy: FaultyProxy) -> None:
    content = os.urandom(300_000)
    storage = Storage("s3://scans/faulty-huge")
    storage.write("scan.tif", content)
    proxy.cut = 0.5
    found = [storage.load("scan.tif", len(content), 0, 1 << 30) for _ in range(6)]

    assert proxy.seen["cut"] > 0
    assert all(sha256(file) == sha256(content) for file in found)
