"""`ray job submit -- python jobs/train.py ...` is `colorize train ...` on the cluster."""

from __future__ import annotations

import sys

from colorize.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
