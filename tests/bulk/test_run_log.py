"""The log of a run: its content, and that storing it hides no error."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from botocore.exceptions import NoCredentialsError

from colorize.bulk.run_log import run_log
from colorize.settings import Verbosity
from colorize.storage.root import Storage

log = logging.getLogger("colorize")


def test_progress_is_logged_by_existing_loggers(tmp_path: Path) -> None:
    assert not log.isEnabledFor(logging.INFO)  # a logger caches its level
    with run_log(Storage(tmp_path)) as path:
        log.info("done %d/%d", 1, 2)

    assert path.read_text().endswith("INFO done 1/2\n")
    assert not log.isEnabledFor(logging.INFO)


@pytest.mark.parametrize(("verbosity", "lines"), [("quiet", 1), ("normal", 2), ("verbose", 2)])
def test_a_quiet_run_prints_only_warnings_but_logs_everything(
    verbosity: Verbosity, lines: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with run_log(Storage(tmp_path), verbosity=verbosity) as path:
        log.info("as it goes")
        log.warning("as it should not")

    assert len(capsys.readouterr().err.splitlines()) == lines
    assert len(path.read_text().splitlines()) == 2


def test_a_failed_log_upload_does_not_hide_the_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(storage: Storage, name: str, data: bytes) -> None:
        raise NoCredentialsError

    monkeypatch.setattr(Storage, "write", refuse)
    with pytest.raises(ValueError, match="what stopped the run"), run_log(Storage("memory://out")):
        raise ValueError("what stopped the run")

    assert "the log could not be stored as _colorize/run.log: Unable to locate credentials" in capsys.readouterr().err
