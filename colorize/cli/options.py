"""Options shared by several commands."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Option(
        "--model",
        help="a name of `colorize models`, a checkpoint, a training run's folder, or NAME=FILE of published weights",
    ),
]
HintsFile = Annotated[
    str | None,
    typer.Option("--hints", metavar="FILE", help="known colors: CSV or JSON with path, x, y and color"),
]
Config = Annotated[Path | None, typer.Option("--config", help="YAML file with settings")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="one setting; may be repeated")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace existing files")]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Ray cluster to use, or `auto` for a running one; default: RAY_ADDRESS, else this machine alone",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="print warnings and errors only")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="also print the log and the failures")]
AsJson = Annotated[bool, typer.Option("--json", help="print the summary as JSON, and nothing else on stdout")]


class Verify(StrEnum):
    """How `colorize bulk` tells whether an input changed since an earlier run."""

    stat = "stat"
    hash = "hash"
