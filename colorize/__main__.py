"""`python -m colorize` is the `colorize` command."""

from __future__ import annotations

from colorize.cli import main

if __name__ == "__main__":
    main()
