"""`ray job submit -- python jobs/evaluate.py ...` is `colorize evaluate ...` on the cluster."""

from __future__ import annotations

import sys

from colorize.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
