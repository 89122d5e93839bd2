"""`python -m colorize.imaging.sandbox.isolated FD`: the process started by `child.Child`."""

from __future__ import annotations

import contextlib
import sys
from multiprocessing.connection import Connection

from colorize.imaging.sandbox.child import serve

if __name__ == "__main__":
    with contextlib.suppress(EOFError, OSError):  # the parent has closed the pipe
        serve(Connection(int(sys.argv[1])))
