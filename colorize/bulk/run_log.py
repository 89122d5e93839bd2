"""The log of one run: lines on the terminal, and a file that ends up beside the outputs."""

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
    """Time, level and message, which may hold what strangers chose: on one line, with nothing that acts."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (as logging calls it)
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 (as above)
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


class JsonLines(PlainLines):
    """One JSON object a line: `time`, `level`, `run`, `message`, and `error` where there is a traceback."""

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
    """What a run is called in its log and in `run.json`: when it started and a few digits of where it wrote.

    >>> run_id(0, "s3://archive/colored")
    '19700101T000000Z-d59d2a'
    """
    return f"{datetime.fromtimestamp(started, UTC):%Y%m%dT%H%M%SZ}-{hashlib.sha256(output.encode()).hexdigest()[:6]}"


@contextmanager
def run_log(
    output: Storage, formatter: logging.Formatter | None = None, verbosity: Verbosity = "normal"
) -> Iterator[Path]:
    """Sends the `colorize` logger to a file, and to stderr where no progress bar is shown; yields the file.

    Beside a bar, and where it shall be quiet, stderr gets warnings only.

    Beside local outputs the file grows while the job runs, in the place of an earlier run's. For remote outputs it
    grows in a temporary folder and is uploaded at the end, since objects cannot be appended to.
    """
    with tempfile.TemporaryDirectory(prefix="colorize-") as temporary, ExitStack() as opened:
        root = output.local if output.is_local else LocalRoot(temporary)
        path = Path(root.path, LOG_NAME)
        file = io.TextIOWrapper(root.growing(LOG_NAME), "utf-8", "backslashreplace", write_through=True)
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
    """Stores the log; where that fails it hides neither how the run ended nor why."""
    try:
        output.write(LOG_NAME, path.read_bytes())
    except Exception as error:  # every storage library has its own exceptions
        logging.getLogger("colorize").warning("the log could not be stored as %s: %s", LOG_NAME, one_line(error))


def _terminal(verbosity: Verbosity) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    warnings_only = verbosity == "quiet" or (verbosity == "normal" and sys.stderr.isatty())
    handler.setLevel(logging.WARNING if warnings_only else logging.INFO)
    return handler
