"""`ray job submit -- python jobs/bulk_colorize.py ...` is `colorize bulk ...` on the cluster."""

from __future__ import annotations

import sys

from colorize.cli import main

if __name__ == "__main__":
    main(["bulk", *sys.argv[1:]])
