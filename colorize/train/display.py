"""Shows progress: a bar on a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from colorize.errors import EXIT_STOPPED, StoppedError, printable
from colorize.train.progress import GO_ON, Progress

LINE_SECONDS = 10.0


class Display:
    """Shows the progress of training on stderr. A context manager.

    Args:
        quiet: show warnings only.

    Attributes:
        stop_requested: the user asked to stop.
        started: the first step is done.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.shown = float("-inf")
        self.stop_requested = self.started = False
        self.console = Console(stderr=True)
        self.shows_bar = self.console.is_terminal and not quiet
        self.bar = Bar(TextColumn("{task.description}"), BarColumn(), console=self.console)
        self.task = self.bar.add_task("reading images", total=1.0)

    def __enter__(self) -> Display:
        if self.shows_bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.shows_bar:
            self.bar.stop()

    def progress(self, progress: Progress) -> None:
        """Updates the bar, or prints a line every `LINE_SECONDS`."""
        self.started = True
        if self.shows_bar:
            self.bar.update(self.task, completed=progress.done, description=progress.line())
        elif (now := time.monotonic()) - self.shown >= LINE_SECONDS:
            self.shown = now
            self.log(progress.line())

    def epoch(self, figures: Mapping[str, float]) -> None:
        """Prints an epoch's metrics."""
        shown = {name: value for name, value in figures.items() if name.startswith(("loss", "val_"))}
        self.log(f"epoch {figures['epoch']:.0f} done: " + ", ".join(f"{k} {v:.4g}" for k, v in shown.items()))

    def should_stop(self) -> bool:
        """Whether the user asked to stop."""
        return self.stop_requested

    def log(self, line: str) -> None:
        """Prints a line with the time, unless `quiet`."""
        if not self.quiet:
            self.warn(line)

    def warn(self, line: str) -> None:
        """Prints a line with the time."""
        text = f"{time.strftime('%H:%M:%S')} {printable(line)}"
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def interruptible(display: Display) -> Iterator[None]:
    """Ctrl-C or SIGTERM stops after the current step and saves the state; a second one stops at once."""

    def ask(number: int, frame: object) -> None:
        if display.stop_requested or not display.started:
            raise KeyboardInterrupt
        display.stop_requested = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        raise StoppedError(f"stopped; {GO_ON}", EXIT_STOPPED) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
