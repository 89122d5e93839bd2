"""The metrics as a table on the terminal."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from colorize.errors import printable
from colorize.evaluate.metrics import METRICS
from colorize.evaluate.outcome import Evaluation
from colorize.evaluate.page import Cell, cells


def metrics_table(done: Evaluation) -> Table:
    """One row per metric, one column per model, the best one bold."""
    confidence = f"{100 * done.job.settings.measure.confidence:g} % intervals"
    table = Table(box=None, pad_edge=False, caption=confidence, caption_justify="left")
    table.add_column("")
    for label in done.scores.labels:
        table.add_column(escape(printable(label)), justify="right")
    for metric in METRICS.values():
        found = cells(metric, done.summary)
        if any(cell.value for cell in found):
            arrow = {"higher": "\u2191", "lower": "\u2193"}[metric.better]
            table.add_row(f"{metric.title} {metric.unit}".strip() + f" {arrow}", *(_text(cell) for cell in found))
    return table


def _text(cell: Cell) -> str:
    value = f"[bold]{cell.value}[/bold]" if cell.best else cell.value
    return f"{value} [dim]{cell.interval}[/dim]" if cell.interval else value
