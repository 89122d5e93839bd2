"""`colorize photo` and `colorize restore-grey`, without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated

import typer

from colorize.cli.options import AsJson, Config, HintsFile, Model, Overrides, Overwrite, Quiet
from colorize.cli.terminal import Terminal
from colorize.errors import UsageError
from colorize.predict.outcome import Outcome
from colorize.predict.settings import LimitedSettings, PhotoSettings
from colorize.settings import load_settings


def photo(
    sources: Annotated[
        list[str], typer.Argument(metavar="SRC...", help="image files, folders of them, or http(s) links")
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR_OR_FILE",
            help="file or folder to write; default: NAME.colorized.SUFFIX or FOLDER.colorized in the current folder",
        ),
    ] = None,
    model: Model = "default",
    hints: HintsFile = None,
    compare: Annotated[bool, typer.Option(help="also write grey / colored / original side by side")] = False,
    overwrite: Overwrite = False,
    run_folder: Annotated[
        str | None,
        typer.Option("--run", metavar="RUN", help="a training run's folder, as the model"),
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="one sheet with the image as colored after each epoch of --run")
    ] = False,
    enlarge: Annotated[
        bool, typer.Option("--enlarge", help="three times the size, by a superres_cnn (does not preserve luminance)")
    ] = False,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="also follow links to private and loopback addresses")
    ] = False,
    config: Config = None,
    overrides: Overrides = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Colors single images, or all in a folder, without Ray.

    For large archives use `colorize bulk`, which resumes where it was stopped.
    """
    settings = load_settings(PhotoSettings, config, overrides or ())
    if history and enlarge:
        raise UsageError("--history and --enlarge write different images: give one of them")
    if history and run_folder is None:
        raise UsageError("--history shows the epochs of a training run: give its folder with --run")
    if hints and (history or enlarge):
        raise UsageError("--hints is for colored copies: leave out --history and --enlarge")
    chosen, terminal = run_folder or model, Terminal(quiet, as_json)
    if history or enlarge:
        found = _sheets(sources, output, overwrite, chosen, settings, allow_private, history)
        terminal.outcomes(found, "written")
        return
    from colorize.predict.photo import color_photos

    copies = color_photos(
        sources, output, chosen, settings,
        compare=compare, allow_private=allow_private, hints=hints, overwrite=overwrite,
    )  # fmt: skip
    terminal.outcomes(copies, "colored")


def restore_grey(
    sources: Annotated[
        list[str], typer.Argument(metavar="OUT...", help="colored images, Parquet, or folders; local or s3://")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="IN2", help="folder for the scans, or a file if there is one")
    ],
    force: Annotated[bool, typer.Option(help="extract the luminance even where no record says it is exact")] = False,
    overwrite: Overwrite = False,
    overrides: Overrides = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Restores the scans from colored images, bit for bit where the manifest says `luma_exact`."""
    from colorize.predict import restore

    limits = load_settings(LimitedSettings, overrides=overrides or ()).limits
    found = restore.restore_grey(sources, output, limits, force=force, overwrite=overwrite)
    Terminal(quiet, as_json).outcomes(found, "restored")


def _sheets(
    sources: list[str],
    output: str | None,
    overwrite: bool,
    model: str,
    settings: PhotoSettings,
    allow_private: bool,
    history: bool,
) -> Iterator[Outcome]:
    from colorize.imaging.sandbox import Sandbox
    from colorize.predict.destinations import Destinations
    from colorize.predict.enlarge import write_enlarged
    from colorize.predict.history import write_history
    from colorize.predict.inputs import find_inputs
    from colorize.predict.photo import outcomes

    write = write_history if history else write_enlarged
    inputs, left_out = find_inputs(sources)
    destinations = Destinations(inputs, output, overwrite)
    yield from left_out
    with Sandbox(settings.limits) as sandbox:
        yield from outcomes(
            (each.source, partial(write, each, model, destinations, settings, allow_private, sandbox))
            for each in inputs
        )
