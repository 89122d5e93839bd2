"""`colorize models download`, and `--model` with the names of published weights.

The real places cannot be reached from a test: a server on the loopback interface speaks their protocols, with networks
of the same layers and few channels for weights.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from colorize.bulk.ledger.newest import read_manifest
from colorize.cli import EXIT_USAGE, run
from colorize.errors import EXIT_STOPPED
from colorize.predict import published_weights
from colorize.predict.model_files import find_model
from colorize.predict.published_weights import PUBLISHED
from colorize.storage.root import Storage
from tests.conftest import grey_jpeg, write_tree
from tests.weights_server import WeightsServer, make_small, published_here, stand_in, use_hub

NAME = "ddcolor_modelscope"
PAGE = b"<!DOCTYPE html>\n<html><body>Sign in to go on</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 911950059\n"


@pytest.fixture(autouse=True)
def _few_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightsServer]:
    """The hub and the bucket, and an empty home folder."""
    with published_here(tmp_path, monkeypatch) as running:
        yield running


Terminal = pytest.CaptureFixture[str]


def refusal(words: list[str], terminal: Terminal) -> str:
    """The one-line error of a command."""
    terminal.readouterr()
    assert run(words) == EXIT_USAGE
    shown = terminal.readouterr()
    assert shown.err.count("\n") == 1
    return shown.err


def test_file_and_source_are_printed_before_the_download(server: WeightsServer, capfd: Terminal) -> None:
    assert run(["models", "download", NAME]) == 0
    shown = capfd.readouterr()

    first, last = shown.out.splitlines()
    assert first == f"{NAME}: 0 MB from {server.address}/piddnad/DDColor-models/resolve/main/{NAME}.pth (Apache-2.0)"
    assert last.endswith(f"use it as --model {NAME}")
    assert shown.err == ""
    assert find_model(NAME).architecture == "ddcolor_large"
    assert find_model(NAME).name == NAME


def test_the_second_time_the_cache_is_used(server: WeightsServer, capfd: Terminal) -> None:
    assert run(["models", "download", NAME]) == 0
    server.requests.clear()
    capfd.readouterr()

    assert run(["models", "download", NAME]) == 0
    assert capfd.readouterr().out.startswith(f"{NAME} is already in the cache: ")
    assert server.requests == []


@pytest.mark.slow
def test_an_interrupted_download_resumes(server: WeightsServer, capfd: Terminal) -> None:
    server.breaks = [1024, 2048]

    assert run(["models", "download", NAME]) == 0
    assert server.fetched == ["", "bytes=1024-", "bytes=3072-"]
    assert capfd.readouterr().err == ""
    path = PUBLISHED[NAME].cached()
    assert path is not None
    assert path.read_bytes() == server.files[f"{NAME}.pth"]


@pytest.mark.slow
def test_a_stopped_download_leaves_no_partial_file(server: WeightsServer, tmp_path: Path, capfd: Terminal) -> None:
    """As a user runs it: in another process, with the mirror in its environment."""
    environment = {**os.environ, "HOME": str(tmp_path), "HF_HOME": str(tmp_path), "HF_ENDPOINT": server.address}
    server.stalls = True
    process = subprocess.Popen(
        [sys.executable, "-m", "colorize", "models", "download", NAME],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stalled.wait(90)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    assert (process.returncode, err) == (EXIT_STOPPED, "error: stopped\n")
    assert out.startswith(f"{NAME}: 0 MB from {server.address}")
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".incomplete", ".pth")]
    server.stalls = False
    assert run(["models", "download", NAME]) == 0
    assert server.fetched[-1] == ""


def test_a_corrupted_download_is_refused_and_repeated(server: WeightsServer, capfd: Terminal) -> None:
    whole = server.files[f"{NAME}.pth"]
    digest = hashlib.sha256(whole).hexdigest()
    server.announced = {f"{NAME}.pth": digest}
    server.files[f"{NAME}.pth"] = whole[:-1] + b"?"
    assert f"not {digest[:16]}, which the server reported" in refusal(["models", "download", NAME], capfd)
    assert "download them again with `colorize models download" in refusal(["photo", "x.jpg", "--model", NAME], capfd)

    server.files[f"{NAME}.pth"] = whole
    assert run(["models", "download", NAME]) == 0
    assert find_model(NAME).architecture == "ddcolor_large"


@pytest.mark.parametrize(
    ("data", "words"),
    [(PAGE, "is a web page (HTML)"), (POINTER, "is a git-lfs pointer"), (b"\x89PNG\r\n", "is neither a .pth nor a")],
)
def test_a_file_other_than_weights_is_named(server: WeightsServer, data: bytes, words: str, capfd: Terminal) -> None:
    server.files[f"{NAME}.pth"] = data

    assert words in refusal(["models", "download", NAME], capfd)


def test_weights_of_another_architecture_are_refused(server: WeightsServer, capfd: Terminal) -> None:
    server.files[f"{NAME}.pth"] = stand_in("siggraph17")

    assert "does not fit its model" in refusal(["models", "download", NAME], capfd)


def test_a_replaced_cache_file_is_refused(server: WeightsServer, tmp_path: Path, capfd: Terminal) -> None:
    """A hash recorded at the first download is known afterwards, even without the cache."""
    assert run(["models", "download", NAME]) == 0
    (tmp_path / "hub").rename(tmp_path / "gone")
    server.files[f"{NAME}.pth"] = stand_in("ddcolor_large", seed=1)

    line = refusal(["models", "download", NAME], capfd)
    assert "which the first download had" in line
    assert f"{tmp_path}/data/colorize/weights/{NAME}.sha256" in line


def test_without_network_access_the_error_names_a_remedy(
    server: WeightsServer, monkeypatch: pytest.MonkeyPatch, capfd: Terminal
) -> None:
    use_hub("http://127.0.0.1:9", monkeypatch)
    line = refusal(["models", "download", NAME], capfd)
    assert "Connection refused" in line
    assert "set a mirror (HF_ENDPOINT), or copy the file to this machine and use --model ddcolor_large=FILE" in line


def test_offline_mode_forbids_downloads_but_not_cached_files(
    server: WeightsServer, monkeypatch: pytest.MonkeyPatch, capfd: Terminal
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refusal(["models", "download", NAME], capfd)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert run(["models", "download", NAME]) == 0

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert run(["models", "download", NAME]) == 0
    assert find_model(NAME).architecture == "ddcolor_large"


def test_a_file_missing_on_the_hub_is_named(server: WeightsServer, capfd: Terminal) -> None:
    server.files.clear()

    assert f"{NAME}.pth" in refusal(["models", "download", NAME], capfd)


class TestTheBucket:
    @pytest.fixture(autouse=True)
    def _hash_of_the_stand_in(self, server: WeightsServer, monkeypatch: pytest.MonkeyPatch) -> None:
        data = stand_in("siggraph17")
        weights = replace(PUBLISHED["siggraph17"], sha256=hashlib.sha256(data).hexdigest()[:8])
        monkeypatch.setitem(published_weights.PUBLISHED, "siggraph17", weights)
        server.files[weights.file] = data

    @pytest.mark.slow
    def test_it_is_downloaded_and_resumed_in_the_cache_of_the_original_program(
        self, server: WeightsServer, tmp_path: Path, capfd: Terminal
    ) -> None:
        server.breaks = [512]
        assert run(["models", "download", "siggraph17"]) == 0
        assert "BSD-2-Clause" in capfd.readouterr().out
        assert server.fetched == ["", "bytes=512-"]
        assert [path.name for path in (tmp_path / "torch/hub/checkpoints").iterdir()] == ["siggraph17-df00044c.pth"]
        assert find_model("siggraph17").architecture == "siggraph17"

    def test_a_file_with_a_wrong_hash_never_enters_the_cache(
        self, server: WeightsServer, tmp_path: Path, capfd: Terminal
    ) -> None:
        server.files[PUBLISHED["siggraph17"].file] = stand_in("siggraph17", seed=1)
        assert "which its authors published" in refusal(["models", "download", "siggraph17"], capfd)
        assert list((tmp_path / "torch/hub/checkpoints").iterdir()) == []

    def test_an_unreachable_server_is_reported_in_one_line(
        self, monkeypatch: pytest.MonkeyPatch, capfd: Terminal
    ) -> None:
        monkeypatch.setenv("COLORIZERS_ENDPOINT", "http://127.0.0.1:9")
        assert "set a mirror (COLORIZERS_ENDPOINT)" in refusal(["models", "download", "siggraph17"], capfd)

    def test_a_missing_file_is_reported_in_one_line(self, server: WeightsServer, capfd: Terminal) -> None:
        server.files.clear()
        assert "404" in refusal(["models", "download", "siggraph17"], capfd)


def test_a_model_not_downloaded_names_the_command(server: WeightsServer, capfd: Terminal) -> None:
    assert f"`colorize models download {NAME}`" in refusal(["photo", "x.jpg", "--model", NAME], capfd)


def test_model_names_accept_a_file(server: WeightsServer, tmp_path: Path) -> None:
    (tmp_path / "copied.pth").write_bytes(server.files[f"{NAME}.pth"])

    assert find_model(f"{NAME}={tmp_path}/copied.pth").architecture == "ddcolor_large"


def test_an_unknown_name_lists_the_known_ones(capfd: Terminal) -> None:
    line = refusal(["models", "download", "x"], capfd)
    assert all(name in line for name in PUBLISHED)


def test_known_hashes_match_the_files() -> None:
    for name in ("eccv16", "siggraph17"):
        assert PUBLISHED[name].file.removesuffix(".pth").endswith(PUBLISHED[name].sha256[:8])


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_published_weights_can_be_selected_by_name(server: WeightsServer, tmp_path: Path) -> None:
    write_tree(tmp_path / "scans", {f"{i}.jpg": grey_jpeg(i) for i in range(2)})
    assert run(["models", "download", NAME]) == 0

    words = ["--input", str(tmp_path / "scans"), "--output", str(tmp_path / "out"), "--model", NAME]
    assert run(["bulk", *words, "--set", "colorizer.size=64"]) == 0
    rows = read_manifest(Storage(tmp_path / "out")).to_pylist()
    assert [(row["status"], row["model"]) for row in rows] == [("ok", NAME)] * 2
