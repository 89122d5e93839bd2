"""Runs README and docs command by command: every fenced block, unmodified, in order, in an empty home.

A command runs unless it is listed below, with the reason why it cannot or as one that another test runs. What the text
says of the outcome is checked after it: the files that it names are there.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from colorize.cli import run
from colorize.storage.root import Storage
from colorize.weights import shipped_weights
from tests.conftest import S3, grey_jpeg, jpegtran, write_tree
from tests.documents import INSTEAD, Block, blocks, fenced, here, words
from tests.weights_server import make_small, published_here, stand_in

ROOT = Path(__file__).parent.parent

CANNOT = {  # prefixes of commands that are not run, and why
    "make test": "these are the tests",
    "python3 -m venv": "fetches 5 GB of packages, which the tests run on",
    "pip install": "needs a package index",
    "ray up": "needs an account at AWS",
    "ray dashboard cluster.yaml": "needs the cluster of `ray up`",
    "export RAY_API_SERVER_ADDRESS=": "leads to the cluster of `ray up`",
    "ray job submit --runtime-env configs/runtime_env.yaml -- 'python": "needs the cluster of `ray up`",
    "ray down": "needs the cluster of `ray up`",
    "docker": "needs docker and a registry",
    "kubectl": "needs a Kubernetes cluster",
    "CREATE EXTERNAL TABLE": "is for AWS Athena",
}
ELSEWHERE = {"make demo": "run by the last test here, but for what it installs first: 5 GB of packages"}
ON_A_HEAD = {  # run by tests/bulk/test_job_submit.py, which starts one
    "ray get-auth-token": "",
    "export RAY_AUTH_MODE=token": "",
    "ray start --head": "",
    "ray job submit": "",
}


def is_listed(command: str, *lists: dict[str, str]) -> bool:
    return any(command.startswith(begin) for each in lists for begin in each)


WALKED = [
    each
    for each in blocks()
    if not all(
        is_listed(command, CANNOT, ELSEWHERE, ON_A_HEAD)
        for command in each.commands[: 1 if each.language == "sql" else None]
    )
]


def test_every_listed_command_is_documented() -> None:
    commands = [command for each in blocks() for command in each.commands]
    for begin in (*CANNOT, *ELSEWHERE, *ON_A_HEAD):
        assert any(command.startswith(begin) for command in commands), f"no document says {begin!r} any more"
    for word in INSTEAD:
        assert any(word in command for command in commands), f"no document says {word!r} any more"


def test_every_code_block_has_a_known_language() -> None:
    assert {each.language for each in WALKED} == {"bash", "python"}


# --- fixtures for the documents ---


def color_jpegs(count: int) -> dict[str, bytes]:
    """Color photographs, by split."""
    from skimage import data

    image, files = Image.fromarray(data.astronaut()), {}
    for number in range(count):
        split = ("train", "train", "val", "test")[number % 4]
        buffer = image.crop((20 * number, 10 * number, 20 * number + 96, 10 * number + 80))
        files[f"{split}/{number}.jpg"] = encoded(buffer)
    return files


def encoded(image: Image.Image, format: str = "JPEG") -> bytes:
    file = io.BytesIO()
    image.save(file, format)
    return file.getvalue()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and a working directory with the files that the documents name."""
    (tmp_path / "home").mkdir()
    folder = tmp_path / "desk"
    scans = {f"box {i % 2}/{i}.jpg": grey_jpeg(i) for i in range(3)}
    write_tree(folder, {f"scans/{name}": data for name, data in scans.items()})
    write_tree(folder, {f"photos/{name}": data for name, data in color_jpegs(8).items()})
    write_tree(
        folder, {"grandma.jpg": grey_jpeg(9), "tiny.png": encoded(Image.open(folder / "scans/box 0/0.jpg"), "PNG")}
    )
    write_tree(folder, {"hints.csv": b"path,x,y,color\ngrandma.jpg,10,10,maroon\n"})
    write_tree(folder, {"inventory.csv": b"path\n" + b"\n".join(f"scans/{name}".encode() for name in scans)})
    pq.write_table(pa.table({"image": list(scans.values())}), folder / "scans.parquet")
    for name in ("configs", "jobs"):
        (folder / name).symlink_to(ROOT / name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def buckets(desk: Path, s3: S3) -> None:
    """The S3 objects that the documents read."""
    filesystem = Storage("s3://scans").fs
    for bucket in ("archive", "bucket", "models"):
        if filesystem.exists(bucket):
            filesystem.rm(bucket, recursive=True)
        filesystem.mkdir(bucket)
    filesystem.put(str(desk / "scans"), "archive/scans", recursive=True)
    filesystem.put(str(desk / "photos"), "bucket/photos", recursive=True)


@contextmanager
def web(folder: Path) -> Iterator[str]:
    """A web server with `street.png`."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    write_tree(folder, {"street.png": encoded(Image.open(folder.parent / "tiny.png"), "PNG")})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


# --- set-up and checks of single documents ---


def given_weights(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published weights, downloaded elsewhere."""
    make_small(monkeypatch)
    write_tree(desk, {"siggraph17-df00044c.pth": stand_in("siggraph17"), "ddcolor.pth": stand_in("ddcolor_large")})
    Storage("s3://models").write("ddcolor_tiny.pth", stand_in("ddcolor_tiny"))


def given_a_colored_folder(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["bulk", "--input", "scans/", "--output", "colored/"]) == 0


def given_a_run(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training run's folder, as far as evaluating it needs."""
    write_tree(desk, {"runs/mine/best.safetensors": shipped_weights()["default"].read_bytes()})


def given_a_run_of_superres(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["trainer.epochs=1", "trainer.batch_size=4", "validation.samples=1", "data.split=null"]
    command = "colorize train --config configs/train/superres_cnn.yaml --data photos --output runs/superres --no-ray"
    assert run(words(" --set ".join([command, *settings]))[1:]) == 0


def readme_says(desk: Path) -> None:
    assert jpegtran((desk / "grey/grandma.jpg").read_bytes()) == jpegtran((desk / "grandma.jpg").read_bytes())
    assert (desk / "colored/grandma.jpg.compare.jpg").is_file()
    assert np.ptp(np.asarray(Image.open(desk / "colored.png")).astype(int), axis=2).max() > 0
    assert Storage("s3://archive").fs.exists("archive/colored/box 0/0.jpg")


def bulk_says(desk: Path) -> None:
    assert (desk / "colored/grandma.jpg.compare.jpg").is_file()
    archive = pq.read_table(desk / "colored-archive/scans.parquet")
    assert archive.column_names == ["image", "colorized", "status", "error"]
    assert Storage("s3://colored").fs.exists("colored/scans/box 0/0.jpg")
    assert (desk / "restored/grandma.jpg").is_file()


def networks_say(desk: Path) -> None:
    assert (desk / "grandma.colorized.jpg").is_file()
    assert (desk / "ddcolor_large.safetensors").is_file()


GIVEN: dict[str, Callable[[Path, pytest.MonkeyPatch], None]] = {
    "docs/manifest.md": given_a_colored_folder,
    "docs/networks.md": given_weights,
    "docs/evaluation.md": given_a_run,
    "docs/training.md": given_a_run_of_superres,
}
SAYS: dict[str, Callable[[Path], None]] = {
    "README.md": readme_says,
    "docs/bulk.md": bulk_says,
    "docs/networks.md": networks_say,
}


def listed_files(document: str) -> list[str]:
    """The files that a document lists in blocks without a language, as patterns: a path, and names in its folder."""
    found = []
    for line in "".join(fenced(ROOT / document, "")).splitlines():
        first, *others = re.split(r"\s{2,}", line)
        names = [f"{Path(first).parent}/{name}" for name in others if re.fullmatch(r"\w+\.\w+", name)]
        found += [re.sub(r"<[^>]*>", "*", first), *names]
    return found


@pytest.mark.cluster
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("cluster", "buckets")
@pytest.mark.parametrize("document", list(dict.fromkeys(each.document for each in WALKED)))
def test_the_commands_of_a_document_work(
    document: str, desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with published_here(tmp_path, monkeypatch), web(desk / "web") as address:
        if document in GIVEN:
            GIVEN[document](desk, monkeypatch)
        for each in WALKED:
            if each.document == document:
                walk(each, address)
    for pattern in listed_files(document):
        assert list(desk.glob(pattern)), f"{document} says that there is {pattern}"
    if document in SAYS:
        SAYS[document](desk)


def walk(each: Block, address: str) -> None:
    """Runs a block's commands, each of which must succeed."""
    if each.language == "python":
        exec(compile(each.text, each.document, "exec"), {})
        return
    for command in each.commands:
        if is_listed(command, CANNOT, ELSEWHERE, ON_A_HEAD):
            continue
        assert command.startswith("colorize "), f"{each.document}: {command!r} is neither run nor listed"
        assert run(words(here(command, address))[1:]) == 0, f"{each.document}: {command}"


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_the_demo_writes_its_files_and_prints_only_its_summary(desk: Path) -> None:
    """As README has it, with its own Ray, in the test environment: nothing is installed."""
    (desk / "scripts").symlink_to(ROOT / "scripts")
    venv = desk / "venv"
    (venv / "bin").mkdir(parents=True)
    for name, module in {"python": "", "colorize": "-m colorize "}.items():
        script = venv / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module}"$@"\n')
        script.chmod(0o755)
    installed = venv / ".installed"
    command = ["make", "--silent", "-f", str(ROOT / "Makefile"), f"VENV={venv}", f"--old-file={installed}", "demo"]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    page = "demo/colored/_colorize/report.html"
    assert done.stdout.splitlines() == [
        f"8 inputs: 8 colored, 0 skipped, 0 failed; see {desk}/{page}",
        "",
        "Look at demo/before-and-after.jpg, at the images in demo/colored/ and at the report of the run:",
        page,
    ]
    assert [line for line in done.stderr.splitlines() if not re.match(r"[\d-]+ [\d:,]+ INFO ", line)] == []
    scans = {path.relative_to("demo/scans") for path in Path("demo/scans").rglob("*.*")}
    assert len(scans) == 8
    assert all(Path("demo/colored", name).is_file() for name in scans)
    assert Image.open("demo/before-and-after.jpg").width == 1400
    assert "<html" in Path(page).read_text()
