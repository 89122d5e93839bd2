"""The `colorize` command.

Exit status: 0 done; 1 unexpected fault; 2 wrong usage or configuration; 3 finished, but more inputs failed than
`--tolerate-failures` allows; 130 stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from colorize import __version__
from colorize.cli import archives, images, models, training
from colorize.errors import EXIT_FAILURES, EXIT_FAULT, EXIT_STOPPED, EXIT_USAGE, StoppedError, UsageError, joined, say
from colorize.storage.faults import storage_exhausted

__all__ = ["EXIT_FAILURES", "EXIT_FAULT", "EXIT_USAGE", "app", "main", "run"]

STOPPED = "stopped"
RESUMES = "; run the same command again to resume"  # for commands that resume

app = typer.Typer(
    name="colorize",
    help="Colorizes old photographs, one by one or a whole archive at a time.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for name, command, example in (
    ("photo", images.photo, "grandma.jpg https://example.org/street.png -o colored/ --compare"),
    ("restore-grey", images.restore_grey, "colored/ -o grey/"),
    ("bulk", archives.bulk, "--input s3://archive/scans --output s3://archive/colored --set pool.max=4"),
    ("report", archives.report, "s3://archive/colored"),
    ("train", training.train, "--config configs/train/unet.yaml --data photos/ --output runs/unet"),
    ("evaluate", training.evaluate, "--model default --model grey --data photos/ --split val --output evaluation/"),
    ("export", training.export, "default -o default.onnx"),
):
    whole = (command.__doc__ or "").partition("\n")[0]  # uncut in the list of commands
    app.command(name, short_help=whole, epilog=f"Example: colorize {name} {example}")(command)
app.add_typer(models.app, name="models", short_help=models.models.__doc__)


def _show_version(asked: bool) -> None:
    if asked:
        say(f"colorize {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="show the version, and exit")
    ] = False,
) -> None:
    """Colorizes old photographs, one by one or a whole archive at a time."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command line, by default `sys.argv`, and exits with its status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]  # allowed anywhere
    sys.exit(run(words, debug=debug))


def run(words: Sequence[str], *, debug: bool = False) -> int:
    """Runs a command line and returns its exit status. Errors are one line on stderr."""
    interrupted = STOPPED + (RESUMES if words[:1] == ["bulk"] else "")
    if not words:
        run(["--help"])
        return EXIT_USAGE
    try:
        status = app(args=list(words), standalone_mode=False, prog_name="colorize")
    except UsageError as error:
        return _fail(str(error), EXIT_USAGE, debug)
    except StoppedError as error:
        return _fail(str(error), error.status, debug)
    except typer.exceptions.TyperException as error:
        return _fail(f"{error.format_message().rstrip('.')}{_where_to_read(error)}", EXIT_USAGE, debug)
    except (KeyboardInterrupt, typer.Abort):
        return _fail(interrupted, EXIT_STOPPED, debug)
    except Exception as error:
        if reason := storage_exhausted(error):
            return _fail(reason, EXIT_FAULT, debug)
        hint = "" if debug else " (--debug shows where)"
        return _fail(f"unexpected fault: {type(error).__name__}: {_first_line(error)}{hint}", EXIT_FAULT, debug)
    if status == EXIT_STOPPED:  # typer handled the interrupt silently
        return _fail(interrupted, EXIT_STOPPED, debug)
    return status if isinstance(status, int) else 0


def _fail(message: str, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    say(f"error: {joined(message)}", sys.stderr)
    return status


def _where_to_read(error: typer.exceptions.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f" (see `{context.command_path} --help`)" if context else ""


def _first_line(error: Exception) -> str:
    """The last line: remote errors have their cause below a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no further message"
