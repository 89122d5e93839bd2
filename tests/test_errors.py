"""Untrusted text is escaped in output and logs, and cannot control a terminal."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from colorize.bulk.run_log import LOG_NAME, JsonLines, run_log
from colorize.cli import EXIT_FAILURES, EXIT_USAGE, run
from colorize.errors import UsageError, joined, one_line, printable, say
from colorize.storage.root import Storage
from colorize.train.display import Display
from tests.conftest import grey_jpeg

HOSTILE = "\x1b]0;owned\x07\x1b[2Ka\rb\nc\u202egpj.\x9b31m\udcff.jpg"
SHOWN = r"\x1b]0;owned\x07\x1b[2Ka\rb\nc\u202egpj.\x9b31m\udcff.jpg"


def acts(text: str) -> bool:
    """Whether a text has control characters other than the ends of its lines."""
    return printable(text.replace("\n", "")) != text.replace("\n", "")


def test_control_characters_are_escaped() -> None:
    assert printable(HOSTILE) == SHOWN


@pytest.mark.parametrize(
    "name", ["a  b.jpg", "Köln, Straße.jpg", "写真\u3000一.jpg", "क\u200dष.jpg", "👩\u200d🚀.jpg", "a\u00a0b.jpg"]
)
def test_names_of_any_script_stay_as_they_are(name: str) -> None:
    assert printable(name) == name


def test_error_text_is_one_line_of_bounded_length() -> None:
    assert one_line(ValueError("first\nsecond \x1b[31m")) == r"first second \x1b[31m"
    assert joined(" a \n b ") == "a b"
    assert one_line(ValueError()) == "ValueError"
    assert len(one_line(ValueError("\x1b" * 1000))) == 300


def test_every_printed_line_is_escaped() -> None:
    out = io.StringIO()
    say(HOSTILE, out)

    assert out.getvalue() == SHOWN + "\n"


def test_photo_escapes_a_malicious_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [HOSTILE, "\x1b[31mgood\nname\udcfe.jpg"]
    Path(tmp_path, names[0]).write_bytes(b"no image")
    Path(tmp_path, names[1]).write_bytes(grey_jpeg(1))
    monkeypatch.chdir(tmp_path)
    assert run(["photo", *names, "-o", "out", "--set", "colorizer.size=64"]) == EXIT_FAILURES
    out, err = capsys.readouterr()

    assert not acts(out + err)
    assert err.startswith(f"{SHOWN}: ")
    assert out.startswith(r"\x1b[31mgood\nname\udcfe.jpg -> out/\x1b[31mgood\nname\udcfe.jpg (")
    assert out.splitlines()[1:] == ["2 images: 1 colored, 1 failed"]
    assert len(err.splitlines()) == 1


def test_usage_errors_escape_a_malicious_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["bulk", "--input", f"{tmp_path}/{HOSTILE}", "--output", str(tmp_path / "out")]) == EXIT_USAGE
    err = capsys.readouterr().err

    assert not acts(err)
    assert len(err.splitlines()) == 1


@pytest.fixture
def rude_server() -> Iterator[str]:
    """A server whose response contains an escape sequence."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.0 418 \x1b[2Jgone\x07\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/a.jpg"
        thread.join(5)


def test_server_responses_are_escaped(rude_server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["photo", rude_server, "-o", str(tmp_path / "out"), "--allow-private"]) == EXIT_FAILURES
    err = capsys.readouterr().err

    assert not acts(err)
    assert r"the server answered 418 \x1b[2Jgone\x07" in err


def test_a_log_has_one_line_per_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with run_log(Storage(tmp_path)):
        logging.getLogger("colorize").warning("cannot read %s", HOSTILE)
    text = (tmp_path / LOG_NAME).read_text()

    assert text.endswith(f"WARNING cannot read {SHOWN}\n")
    assert not acts(text)
    assert not acts(capsys.readouterr().err)


def test_tracebacks_in_logs_are_escaped(tmp_path: Path) -> None:
    for formatter in (None, JsonLines("run")):
        with run_log(Storage(tmp_path), formatter):
            try:
                raise OSError(HOSTILE)
            except OSError:
                logging.getLogger("colorize").exception("failed")
        text = (tmp_path / LOG_NAME).read_text()

        assert not acts(text)
        assert "Traceback" in text


def test_training_prints_one_line_per_message(capsys: pytest.CaptureFixture[str]) -> None:
    Display().log(f"broken: {HOSTILE}")
    text = capsys.readouterr().err

    assert text.endswith(f" broken: {SHOWN}\n")
    assert not acts(text)


def test_json_logs_are_escaped(tmp_path: Path) -> None:
    with run_log(Storage(tmp_path), JsonLines("run")):
        logging.getLogger("colorize").warning("cannot read %s", HOSTILE)
    line = (tmp_path / LOG_NAME).read_text()

    assert not acts(line)
    assert json.loads(line)["message"] == f"cannot read {SHOWN}"


def test_messages_of_the_manifest_are_printable(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught:
        Storage(tmp_path).read(f"{HOSTILE[:-5]}")

    assert not acts(one_line(caught.value))
    with pytest.raises(UsageError) as usage:
        Storage(tmp_path / os.fsdecode(b"\xff\x1b")).is_file()
    assert not acts(joined(str(usage.value)))
