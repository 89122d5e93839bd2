"""Summaries on the terminal: text, or one JSON object."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import typer

from colorize.errors import EXIT_FAILURES, UsageError, say
from colorize.predict.outcome import Outcome
from colorize.settings import Verbosity


@dataclass(frozen=True)
class Terminal:
    """Prints summaries to stdout; progress, warnings and errors go to stderr."""

    quiet: bool = False
    as_json: bool = False

    def summary(self, facts: Mapping[str, Any], lines: Iterable[str]) -> None:
        """Prints the facts as JSON, or the lines."""
        if self.as_json:
            say(json.dumps(facts).replace("\x7f", "\\u007f"))  # the one control character that JSON leaves
        elif not self.quiet:
            for line in lines:
                say(line)

    def outcomes(self, found: Iterable[Outcome], done: str) -> None:
        """Prints each outcome as it arrives, then a count with the verb `done`.

        Raises:
            typer.Exit: an image failed.
        """
        shown: list[dict[str, Any]] = []  # for --json only, to bound memory otherwise
        copied = failed = inputs = 0
        for outcome in found:
            inputs += 1
            failed += not outcome.ok
            copied += outcome.images if outcome.ok and outcome.output else 0
            if not outcome.ok:
                say(outcome.line, sys.stderr)
            elif not (self.quiet or self.as_json):
                say(outcome.line)
            if self.as_json:
                shown.append(outcome.as_dict())
        line = f"{copied + failed} images: {copied} {done}, {failed} failed"
        self.summary({done: copied, "failed": failed, "pictures": shown}, [line] if inputs > 1 else [])
        if failed:
            raise typer.Exit(EXIT_FAILURES)


def verbosity(quiet: bool, verbose: bool) -> Verbosity:
    """The verbosity of these options. Raises UsageError for both."""
    if quiet and verbose:
        raise UsageError("--quiet and --verbose ask for opposite things: give one of them")
    return "quiet" if quiet else "verbose" if verbose else "normal"
