"""The command line itself: help, errors, the list of models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from colorize import __version__
from colorize.bulk.settings import TriageSettings
from colorize.cli import EXIT_FAILURES, EXIT_USAGE, app, run
from colorize.cli.archives import way_out
from colorize.imaging.sandbox import Sandbox
from colorize.imaging.settings import LimitSettings
from tests.conftest import grey_jpeg

COMMANDS = sorted(command.name or command.callback.__name__ for command in app.registered_commands if command.callback)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert f"Example: colorize {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["bluk"], "No such command 'bluk'. Did you mean 'bulk'? (see `colorize --help`)"),
        (["photo"], "Missing argument 'SRC...' (see `colorize photo --help`)"),
        (["bulk", "--input", "scans"], "Missing option '--output' (see `colorize bulk --help`)"),
        (["photo", "a.jpg", "--modell", "x"], "(Possible options: --model) (see `colorize photo --help`)"),
    ],
)
def test_a_usage_error_is_one_line_that_names_the_help(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == EXIT_USAGE
    text = capsys.readouterr().err
    assert line in text
    assert text.count("\n") == 1


def test_debug_prints_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["photo", "x.jpg", "--model", "nope", "--debug"], debug=True) == EXIT_USAGE
    assert "Traceback" in capsys.readouterr().err


def test_models_lists_architectures_and_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models"]) == 0
    text = capsys.readouterr().out
    assert "default" in text
    assert "unet" in text


@pytest.mark.parametrize("how", [["-m", "colorize"], ["jobs/bulk_colorize.py"]])
def test_it_runs_as_a_module(how: list[str]) -> None:
    result = subprocess.run([sys.executable, *how, "--help"], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "Usage: colorize" in result.stdout


@pytest.mark.parametrize("words", [["-h"], ["bulk", "-h"], ["models", "download", "-h"]])
def test_help_has_a_short_option(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 0
    assert "Usage: colorize" in capsys.readouterr().out


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == EXIT_USAGE
    shown = capsys.readouterr()
    assert "Commands:" in shown.out
    assert "..." not in shown.out.partition("Commands:")[2]
    assert shown.err == ""


def test_the_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"colorize {__version__}\n"


def test_a_shell_completes_commands() -> None:
    environment = {
        **os.environ,
        "_COLORIZE_COMPLETE": "complete_bash",
        "COMP_WORDS": "colorize ph",
        "COMP_CWORD": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [sys.executable, "-m", "colorize"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["photo"]


@pytest.mark.parametrize(
    "words", [["bulk", "--quiet"], ["photo", "-q"], ["restore-grey", "-q"], ["train", "-q"], ["evaluate", "-q"]]
)
def test_verbose_commands_have_quiet_and_json(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([words[0], "--help"]) == 0
    shown = capsys.readouterr().out
    assert words[1] in shown
    assert "--json" in shown


@pytest.mark.slow
def test_results_are_available_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good\x7f.jpg").write_bytes(grey_jpeg(1))
    Path("broken.jpg").write_bytes(b"no image")
    assert run(["photo", "good\x7f.jpg", "broken.jpg", "-o", "out", "--json"]) == EXIT_FAILURES
    shown = capsys.readouterr()
    found = json.loads(shown.out)

    assert (found["colored"], found["failed"]) == (1, 1)
    assert [image["output"] for image in found["pictures"]] == ["out/good\x7f.jpg", ""]
    assert shown.err == "broken.jpg: no known image format (8 bytes)\n"

    assert run(["restore-grey", "out", "-o", "back", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    assert Path("back/good\x7f.jpg").exists()


@pytest.fixture
def no_client() -> Iterator[None]:
    """Isolates S3 clients: each test uses the server of its own environment."""
    S3FileSystem.clear_instance_cache()
    yield
    S3FileSystem.clear_instance_cache()


@pytest.mark.slow
@pytest.mark.usefixtures("no_client")
@pytest.mark.parametrize(
    ("endpoint", "line"),
    [
        ("http://nosuch.invalid:9000", "nosuch.invalid:9000: check the network, and AWS_ENDPOINT_URL"),  # at, or from
        ("nosuch.invalid", "AWS_ENDPOINT_URL is not a URL (Invalid endpoint: nosuch.invalid): it must begin with"),
    ],
)
def test_an_unresponsive_server_is_named_with_a_remedy(
    endpoint: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    for words, status in (
        (["photo", "s3://bucket/a.jpg"], EXIT_FAILURES),
        (["bulk", "--input", "s3://bucket/scans", "--output", "out"], EXIT_USAGE),
        (["report", "s3://bucket/colored"], EXIT_USAGE),
    ):
        assert run(words) == status
        shown = capsys.readouterr()
        assert (shown.out, shown.err.count("\n")) == ("", 1)
        assert line in shown.err


def test_decoders_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with Sandbox(LimitSettings()) as sandbox:
        sandbox(os.write, 2, b"Fax4Decode: Line length mismatch at line 8")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("code", "says"),
    [("already_color", "triage.color=color"), ("triage_text", "triage.text=color"), ("truncated", "")],
)
def test_skipped_images_are_reported_with_the_setting_that_colors_them(code: str, says: str) -> None:
    assert (says in way_out(code)) and bool(way_out(code)) == bool(says)
    for kind in TriageSettings.model_fields:
        assert f"--set triage.{kind}=color" in way_out(f"triage_{kind}")


def test_a_refused_run_creates_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scans").mkdir()
    out = tmp_path / "new/folders/out"
    for words in (
        ["--model", "nosuch"],
        ["--input-list", "nosuch.txt"],
        [],
    ):  # each refused at a later point; the last has no files
        assert run(["bulk", "--input", str(tmp_path / "scans"), "--output", str(out), *words]) == EXIT_USAGE
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["photo", "x.jpg", "--model", "nosuch"], "known: ddcolor_artistic"),
        (["photo", "x.jpg", "--model", "eccv16=text.jpg"], "text.jpg"),
        (["bulk", "--input", "https://example.org/scans", "--output", "out"], "use a path, file:// or s3://"),
        (
            ["bulk", "--input", "scans", "--output", "text.jpg"],
            "text.jpg: it is a file, or below one: give a folder",
        ),
        (["bulk", "--input", "scans", "--output", "out", "--input-list", "empty.txt"], "empty.txt names no files"),
        (["bulk", "--input", "scans", "--output", "out", "--verify", "md5"], "'stat', 'hash'"),
        (["bulk", "--input", "scans", "--output", "out", "--limit", "0"], "greater than or equal to 1"),
        (["bulk", "--input", "scans", "--output", "out", "--quiet", "--verbose"], "give one of them"),
        (["bulk", "--input", "scans", "--output", "out", "--price-per-hour", "3"], "add --dry-run"),
    ],
)
def test_errors_are_one_line(
    words: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scans").mkdir()
    Path("scans/a.jpg").write_bytes(b"an image")
    Path("text.jpg").write_text("some text")
    Path("empty.txt").write_text("")

    assert run(words) == EXIT_USAGE
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert line in shown.err
    assert "unexpected" not in shown.err
