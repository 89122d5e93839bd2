"""`ray job submit` against a local head, as the README writes it; stopping a job keeps what is done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from colorize.data.manifest import read_manifest
from colorize.data.storage import Storage
from tests.conftest import free_ports, grey_jpeg, write_tree

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Head:
    """A running head node with its jobs server."""

    address: str
    environment: dict[str, str]

    def submit(self, *words: str, wait: bool = True) -> subprocess.CompletedProcess[str]:
        """`ray job submit --working-dir . -- python jobs/bulk_colorize.py WORDS`."""
        options = ["--working-dir", str(ROOT), *([] if wait else ["--no-wait"])]
        return self.ray("job", "submit", *options, "--", "python", "jobs/bulk_colorize.py", *words)

    def ray(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A `ray` command that talks to this head."""
        return subprocess.run(
            [str(BIN / "ray"), *words], env=self.environment, capture_output=True, text=True, timeout=240, check=False
        )


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """`ray start --head` on loopback ports of its own, in the foreground, ended by its process id."""
    gcs, dashboard, client, agent, agent_grpc = free_ports(5)  # the session's own cluster holds the default ones
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_ADDRESS", "RAY_JOB"))}
    environment |= {
        "PATH": f"{BIN}{os.pathsep}{environment['PATH']}",  # `python` of a job is the head's
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
        "RAY_AUTH_MODE": "disabled",
    }
    log = tmp_path_factory.mktemp("head") / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [str(BIN / "ray"), "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={gcs}",
             "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}",
             f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}",
             "--num-cpus=4", f"--object-store-memory={1 << 30}", "--disable-usage-stats"],
            env=environment, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        running = Head(environment["RAY_API_SERVER_ADDRESS"], environment)
        deadline = time.monotonic() + 120
        while running.ray("job", "submit", "--", "python", "-c", "pass").returncode:  # the agent comes last
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the head did not start: {log.read_text(errors='replace')[-2000:]}")
        yield running
    finally:
        process.terminate()  # the command stops the processes that it started
        process.wait(60)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    write_tree(tmp_path / "scans", {f"box {i % 3}/{i}.jpg": grey_jpeg(i) for i in range(20)})
    return tmp_path / "scans"


def test_a_submitted_job_colors_a_folder(head: Head, scans: Path, tmp_path: Path) -> None:
    result = head.submit("--input", str(scans), "--output", str(tmp_path / "out"))

    assert result.returncode == 0, result.stdout + result.stderr
    assert "20 inputs: 20 colored, 0 skipped, 0 failed" in result.stdout
    assert read_manifest(Storage(tmp_path / "out")).num_rows == 20
    assert len(list((tmp_path / "out").glob("box */*.jpg"))) == 20


def test_a_job_whose_inputs_fail_fails(head: Head, scans: Path, tmp_path: Path) -> None:
    (scans / "broken.jpg").write_bytes(b"no picture")
    result = head.submit("--input", str(scans), "--output", str(tmp_path / "out"))

    assert result.returncode != 0
    assert "1 not_an_image" in result.stdout
    assert read_manifest(Storage(tmp_path / "out")).num_rows == 21


def test_a_stopped_job_keeps_and_accounts_for_what_is_done(head: Head, tmp_path: Path) -> None:
    write_tree(tmp_path / "scans", {f"{i:04d}.jpg": grey_jpeg(i % 50) for i in range(3000)})
    submitted = head.submit("--input", str(tmp_path / "scans"), "--output", str(tmp_path / "out"), wait=False)
    job = next(word for word in submitted.stdout.replace("'", " ").split() if word.startswith("raysubmit_"))
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "out").glob("*.jpg"))) < 50:
        assert time.monotonic() < deadline, head.ray("job", "logs", job).stdout
        time.sleep(0.5)
    head.ray("job", "stop", job)

    report = json.loads((tmp_path / "out/_colorize/run.json").read_text())
    manifest = read_manifest(Storage(tmp_path / "out")).to_pylist()
    assert report["state"] == "interrupted"
    assert 50 <= len(manifest) < 3000
    assert {row["output"] for row in manifest} <= {path.name for path in (tmp_path / "out").glob("*.jpg")}
