"""The log of one run: lines on the terminal, and a file that ends up beside the outputs."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from colorize.data.manifest import LEDGER
from colorize.data.storage import Storage

LOG_NAME = f"{LEDGER}/run.log"
FORMAT = "%(asctime)s %(levelname)s %(message)s"


@contextmanager
def run_log(output: Storage) -> Iterator[Path]:
    """Sends the `colorize` logger to a file, and to stderr where no progress bars are shown; yields the file.

    Beside local outputs the file grows while the job runs. For remote outputs it grows in a temporary folder
    and is uploaded at the end, since objects cannot be appended to.
    """
    with tempfile.TemporaryDirectory(prefix="colorize-") as temporary:
        path = Path(output.path(LOG_NAME)) if output.is_local else Path(temporary) / "run.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers = [logging.FileHandler(path, mode="w", encoding="utf-8"), _terminal()]
        log = logging.getLogger("colorize")
        level, log.level = log.level, logging.INFO
        for handler in handlers:
            handler.setFormatter(logging.Formatter(FORMAT))
            log.addHandler(handler)
        try:
            yield path
        finally:
            log.setLevel(level)
            for handler in handlers:
                log.removeHandler(handler)
                handler.close()
            if not output.is_local:
                output.write(LOG_NAME, path.read_bytes())


def _terminal() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING if sys.stderr.isatty() else logging.INFO)
    return handler
