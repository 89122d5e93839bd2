"""The command itself: help with an example for each command, versions of an error, what the models are."""

from __future__ import annotations

import subprocess
import sys

import pytest

from colorize.cli import EXIT_USAGE, app, run

COMMANDS = sorted(command.name or command.callback.__name__ for command in app.registered_commands if command.callback)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert f"Example: colorize {command}" in capsys.readouterr().out


def test_an_unknown_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bluk"]) == EXIT_USAGE
    assert capsys.readouterr().err.count("\n") == 1


def test_debug_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["photo", "x.jpg", "--model", "nope", "--debug"], debug=True) == EXIT_USAGE
    assert "Traceback" in capsys.readouterr().err


def test_models_lists_architectures_and_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models"]) == 0
    text = capsys.readouterr().out
    assert "default" in text
    assert "unet" in text


@pytest.mark.parametrize("how", [["-m", "colorize"], ["jobs/bulk_colorize.py"]])
def test_it_starts_as_a_module_and_as_a_job(how: list[str]) -> None:
    result = subprocess.run([sys.executable, *how, "--help"], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "Usage: colorize" in result.stdout
