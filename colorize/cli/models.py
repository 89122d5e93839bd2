"""`colorize models` and `colorize models download`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from colorize.errors import say

app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)


@app.callback(epilog="Example: colorize models")
def models(context: typer.Context) -> None:
    """Lists the available weights and architectures, or downloads published weights."""
    if context.invoked_subcommand is None:
        Console().print(_table())


@app.command(epilog="Example: colorize models download ddcolor_modelscope")
def download(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="such as ddcolor_modelscope; see the list")],
) -> None:
    """Downloads published weights into the cache, so that --model accepts their name."""
    from colorize.predict.download import download as fetch

    for name in names:
        for line in fetch(name):
            say(line)


def _table() -> Table:
    from colorize.models import list_models
    from colorize.models.checkpoint import load_checkpoint
    from colorize.predict.published_weights import PUBLISHED
    from colorize.weights import shipped_weights

    table = Table(box=None, pad_edge=False)
    for title in ("name", "kind", "architecture", "sha256"):
        table.add_column(title)
    for name, path in sorted(shipped_weights().items()):
        loaded = load_checkpoint(path)
        table.add_row(name, "shipped weights", loaded.name, loaded.sha256[:12])
    for weights in PUBLISHED.values():
        kind = "published, " + ("fetched" if weights.cached() else "not here")
        table.add_row(weights.name, kind, weights.architecture, weights.sha256[:12])
    for name in list_models():
        table.add_row(name, "architecture", name, "")
    return table
