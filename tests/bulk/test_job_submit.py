"""`ray job submit` to a local head node, as documented; stopping a job keeps completed images."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from colorize.bulk.ledger.newest import read_manifest
from colorize.cli import EXIT_FAILURES, EXIT_USAGE
from colorize.storage.root import Storage
from tests.conftest import S3, free_ports, grey_jpeg, write_tree
from tests.documents import block, here

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
UNSAID = "RAY_ADDRESS", "RAY_JOB", "RAY_AUTH"  # the heads must not inherit the test environment


@dataclass(frozen=True)
class Head:
    """A running head node with its jobs server."""

    address: str
    environment: dict[str, str]
    port: int  # for drivers

    def submit(
        self, *words: str, job: str = "bulk_colorize", wait: bool = True
    ) -> tuple[str, subprocess.CompletedProcess[str]]:
        """Submits `python jobs/JOB.py WORDS` with configs/runtime_env.yaml; returns the job id and the process."""
        return self.run("python", f"jobs/{job}.py", *words, wait=wait)

    def run(self, *command: str, wait: bool = True) -> tuple[str, subprocess.CompletedProcess[str]]:
        """Submits any command."""
        options = ["--runtime-env", "configs/runtime_env.yaml", *([] if wait else ["--no-wait"])]
        return self.type(shlex.join(["ray", "job", "submit", *options, "--", *command]))

    def ray(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A `ray` command that talks to this head."""
        command = [str(BIN / "ray"), *words]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=400, check=False, cwd=ROOT
        )

    def type(self, command: str) -> tuple[str, subprocess.CompletedProcess[str]]:
        """Runs a command line in the repository's folder; returns the submitted job's id and the result."""
        done = subprocess.run(
            ["bash", "-ec", command], env=self.environment, capture_output=True, text=True, timeout=400, check=False,
            cwd=ROOT,
        )  # fmt: skip
        return next((word for word in re.split(r"[\s']", done.stdout) if word.startswith("raysubmit_")), ""), done

    def job(self, name: str) -> JobDetails:
        """The head's information on a job."""
        return JobSubmissionClient(self.address).get_job_info(name)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which `colorize bulk` has only run locally."""
    folder = tmp_path_factory.mktemp("home")
    write_tree(folder / "scans", {"a.jpg": grey_jpeg(0)})
    local = colorize_bulk(folder / "scans", folder / "local", folder)
    assert local.returncode == 0, local.stderr
    return folder


@pytest.fixture(scope="module")
def head(home: Path, s3: S3) -> Iterator[Head]:
    """A head for most tests, without authentication; it reads the S3 credentials from its environment."""
    with started_head(home, {"HOME": str(home)}) as running:
        yield running


@contextmanager
def started_head(folder: Path, settings: dict[str, str]) -> Iterator[Head]:
    """`ray start --head` on loopback ports of its own, in the foreground, ended by its process id.

    Nothing is said of authentication but by `settings`, environment variables. Jobs are sent to the cluster that Ray's
    temporary folder names as the latest, so the head has a folder of its own.
    """
    gcs, dashboard, client, agent, agent_grpc = free_ports(5)  # the session's own cluster holds the default ones
    environment = {key: value for key, value in os.environ.items() if not key.startswith(UNSAID)}
    environment |= {
        "PATH": f"{BIN}{os.pathsep}{environment['PATH']}",  # `python` of a job is the head's
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # stops at once instead of after 30 seconds
        **settings,
    }
    log = folder / "log"
    temporary = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)  # sockets need a short path
    with log.open("wb") as file:
        process = subprocess.Popen(
            [str(BIN / "ray"), "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={gcs}",
             "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}",
             f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}",
             f"--temp-dir={temporary.name}", "--num-cpus=4", f"--object-store-memory={1 << 30}",
             "--disable-usage-stats"],
            env=environment, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not (listens(dashboard) and listens(agent)):  # the jobs server
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the head did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.2)
        yield Head(environment["RAY_API_SERVER_ADDRESS"], environment, gcs)
    finally:
        process.terminate()  # the command stops the processes that it started
        process.wait(60)
        temporary.cleanup()


def listens(port: int) -> bool:
    """Whether a port of the loopback interface accepts connections."""
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    write_tree(tmp_path / "scans", {f"box {i % 3}/{i}.jpg": grey_jpeg(i) for i in range(20)})
    return tmp_path / "scans"


def test_a_kubernetes_job_ends_with_the_status_of_its_command(head: Head, scans: Path, tmp_path: Path) -> None:
    (scans / "broken.jpg").write_bytes(b"no image")
    name, result = head.submit("--input", str(scans), "--output", str(tmp_path / "out"))

    assert result.returncode != 0
    assert (head.job(name).status, head.job(name).driver_exit_code) == (JobStatus.FAILED, EXIT_FAILURES)
    assert "21 inputs: 20 colored, 0 skipped, 1 failed" in result.stdout
    assert "1 not_an_image" in result.stdout
    assert read_manifest(Storage(tmp_path / "out")).num_rows == 21
    assert len(list((tmp_path / "out").glob("box */*.jpg"))) == 20


def test_a_submitted_job_gets_what_it_needs_and_requires_no_token(head: Head, home: Path) -> None:
    """One job for both: it lists its folder, and connects although a local run came before."""
    _, done = head.run("python", "-c", "import os, ray; ray.init(); print('connected', *os.listdir())")

    assert done.returncode == 0, done.stdout + done.stderr
    sent = set(done.stdout.partition("connected ")[2].split())
    assert {"colorize", "jobs", "configs", "pyproject.toml"} <= sent
    assert sent.isdisjoint({"docs", "tests", ".git", ".venv", "demo"})
    assert (home / "local/a.jpg").is_file()
    assert not (home / ".ray/auth_token").exists()


@pytest.fixture
def archive(s3: S3, scans: Path, tmp_path: Path) -> None:
    """The documented inputs: `s3://archive/scans`, `s3://bucket/photos`."""
    write_tree(
        tmp_path / "photos", {f"{split}/{i}.jpg": color_jpeg(i) for split in ("train", "val", "test") for i in range(8)}
    )
    filesystem = Storage("s3://scans").fs
    for bucket, folder in (("archive", scans), ("bucket", tmp_path / "photos")):
        if filesystem.exists(bucket):
            filesystem.rm(bucket, recursive=True)
        filesystem.mkdir(bucket)
        filesystem.put(str(folder), f"{bucket}/{folder.name}", recursive=True)


@pytest.mark.usefixtures("archive")
def test_the_documented_jobs_run_as_written(head: Head) -> None:
    jobs = [
        *block("docs/cluster.md", "ray job submit").commands,
        *block("README.md", "ray job submit").commands,
        block("docs/evaluation.md", "colorize").commands[1],
    ]
    said = {}
    for command in dict.fromkeys(map(here, jobs)):
        name, done = head.type(command)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (head.job(name).status, head.job(name).driver_exit_code) == (JobStatus.SUCCEEDED, 0)
        said[re.findall(r"jobs/(\w+)\.py", command)[0]] = done.stdout

    assert "epoch 1" in said["train"]  # the log was followed
    assert "20 inputs: 20 colored, 0 skipped, 0 failed" in said["bulk_colorize"]
    bucket = Storage("s3://bucket")
    assert bucket.fs.exists("bucket/runs/mine/best.safetensors")
    assert bucket.fs.exists("bucket/eval/evaluation.html")
    assert list(json.loads(bucket.read("eval/metrics.json"))["models"])


def color_jpeg(seed: int) -> bytes:
    """A small color image, different for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((96, 80), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


def test_a_stopped_job_keeps_and_records_completed_images(head: Head, tmp_path: Path) -> None:
    write_tree(tmp_path / "scans", {f"{i:04d}.jpg": grey_jpeg(i % 50) for i in range(3000)})
    job, _ = head.submit("--input", str(tmp_path / "scans"), "--output", str(tmp_path / "out"), wait=False)
    with (tmp_path / "followed").open("wb") as file:
        command = [str(BIN / "ray"), "job", "logs", "--follow", job]
        following = subprocess.Popen(command, env=head.environment, stdout=file)
    deadline = time.monotonic() + 240
    while len(list((tmp_path / "out").glob("*.jpg"))) < 50:
        assert time.monotonic() < deadline, head.ray("job", "logs", job).stdout
        time.sleep(0.5)
    stopped = head.ray("job", "stop", job)

    assert stopped.returncode == 0, stopped.stdout
    assert head.job(job).status == JobStatus.STOPPED
    assert following.wait(60) == 0  # it ends with the job
    assert "3000 inputs from" in (tmp_path / "followed").read_text()
    report = json.loads((tmp_path / "out/_colorize/run.json").read_text())
    manifest = read_manifest(Storage(tmp_path / "out")).to_pylist()
    assert report["state"] == "interrupted"
    assert 50 <= len(manifest) < 3000
    assert {row["output"] for row in manifest} <= {path.name for path in (tmp_path / "out").glob("*.jpg")}


class TestAuthenticationLeftOn:
    """The sequence of docs/cluster.md in a fresh home, with only the documented authentication settings."""

    @pytest.mark.usefixtures("archive")
    def test_it_works_in_a_fresh_home_and_rejects_requests_without_a_token(self, scans: Path, tmp_path: Path) -> None:
        home = tmp_path / "home"
        home.mkdir()
        setup, exports = documented_setup()
        environment = {"HOME": str(home), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        subprocess.run(["bash", "-ec", setup], env=environment, check=True, timeout=120)
        with started_head(tmp_path, {"HOME": str(home), **exports}) as head:
            _, done = head.type(block("docs/cluster.md", "ray get-auth-token").commands[-1])
            assert done.returncode == 0, done.stdout + done.stderr
            assert "20 inputs: 20 colored" in done.stdout

            ours = colorize_bulk(scans, tmp_path / "connected", home, f"127.0.0.1:{head.port}", **exports)
            assert ours.returncode == 0, ours.stderr
            assert [line for line in ours.stderr.splitlines() if " INFO " not in line] == []  # nothing of Ray's
            assert "core_worker" not in done.stdout
            (tmp_path / "elsewhere").mkdir()
            asked = time.monotonic()
            refused = colorize_bulk(scans, tmp_path / "refused", tmp_path / "elsewhere", f"127.0.0.1:{head.port}")
            assert refused.returncode == EXIT_USAGE, refused.stderr
            assert time.monotonic() - asked < 20  # Ray itself would wait longer
            assert refused.stderr.splitlines() == [
                f"error: the Ray cluster at 127.0.0.1:{head.port} requires a token, and got none or a wrong one: "
                "export RAY_AUTH_MODE=token, and the token as RAY_AUTH_TOKEN or in ~/.ray/auth_token "
                "(`ray get-auth-token` shows it on the head)"
            ]


def documented_setup() -> tuple[str, dict[str, str]]:
    """The commands of docs/cluster.md before `ray start --head`, and the variables that they export."""
    block = re.search(r"```bash\n(.*?)^ray start --head\n", (ROOT / "docs/cluster.md").read_text(), re.S | re.M)
    assert block
    return block[1], dict(re.findall(r"^export (\w+)=(\S+)", block[1], re.M))


def colorize_bulk(
    scans: Path, output: Path, home: Path, address: str = "", **exported: str
) -> subprocess.CompletedProcess[str]:
    """`colorize bulk` with the given home and authentication left enabled."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(UNSAID)} | exported
    environment["HOME"] = str(home)
    words = ["--input", str(scans), "--output", str(output), *(["--ray", address] if address else [])]
    return subprocess.run(
        [sys.executable, "-m", "colorize", "bulk", *words],
        env=environment, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT,
    )  # fmt: skip
