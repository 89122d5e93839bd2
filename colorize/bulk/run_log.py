"""The log of one run, on the terminal and in a file in the output."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from colorize.errors import one_line, printable
from colorize.settings import Verbosity
from colorize.storage.local_root import LocalRoot
from colorize.storage.root import LEDGER, Storage

LOG_NAME = f"{LEDGER}/run.log"


class PlainLines(logging.Formatter):
    """Time, level and message on one line, with control characters escaped, because messages may contain file names."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (as logging calls it)
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 (as above)
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


class JsonLines(PlainLines):
    """One JSON object per line: `time`, `level`, `run`, `message`, and `error` if there is a traceback."""

    def __init__(self, run: str) -> None:
        super().__init__()
        self.run = run

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname, "run": self.run, "message": printable(record.getMessage())}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def run_id(started: float, output: str) -> str:
    """The id of a run in its log and in `run.json`: its start time and a short hash of its output's URI.

    >>> run_id(0, "s3://archive/colored")
    '19700101T000000Z-d59d2a'
    """
    return f"{datetime.fromtimestamp(started, UTC):%Y%m%dT%H%M%SZ}-{hashlib.sha256(output.encode()).hexdigest()[:6]}"


@contextmanager
def run_log(
    output: Storage, formatter: logging.Formatter | None = None, verbosity: Verbosity = "normal"
) -> Iterator[Path]:
    """Sends the `colorize` logger to a file and to stderr; yields the path of the file.

    With a progress bar, or if quiet, stderr gets warnings only.

    For local outputs the file is in the output and replaces that of an earlier run. For remote outputs it is a
    temporary file that is uploaded at the end, because objects cannot be appended to.
    """
    with tempfile.TemporaryDirectory(prefix="colorize-") as temporary, ExitStack() as opened:
        root = output.local if output.is_local else LocalRoot(temporary)
        path = Path(root.path, LOG_NAME)
        file = io.TextIOWrapper(root.open_log(LOG_NAME), "utf-8", "backslashreplace", write_through=True)
        opened.enter_context(file)
        handlers = [logging.StreamHandler(file), _terminal(verbosity)]
        log = logging.getLogger("colorize")
        level = log.level
        log.setLevel(logging.INFO)
        for handler in handlers:
            handler.setFormatter(formatter or PlainLines())
            log.addHandler(handler)
        try:
            yield path
        finally:
            log.setLevel(level)
            for handler in handlers:
                log.removeHandler(handler)
                handler.close()
            if not output.is_local:
                _upload(path, output)


def _upload(path: Path, output: Storage) -> None:
    """Uploads the log. Failure is a warning, so it does not hide the result of the run."""
    try:
        output.write(LOG_NAME, path.read_bytes())
    except Exception as error:  # every storage library has its own exceptions
        logging.getLogger("colorize").warning("the log could not be stored as %s: %s", LOG_NAME, one_line(error))


def _terminal(verbosity: Verbosity) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    warnings_only = verbosity == "quiet" or (verbosity == "normal" and sys.stderr.isatty())
    handler.setLevel(logging.WARNING if warnings_only else logging.INFO)
    return handler
