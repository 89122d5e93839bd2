"""`python -m colorize.imaging.sandbox.isolated FD`: the process that `child.Child` starts."""

from __future__ import annotations

import contextlib
import sys
from multiprocessing.connection import Connection

from colorize.imaging.sandbox.child import serve

if __name__ == "__main__":
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        serve(Connection(int(sys.argv[1])))
