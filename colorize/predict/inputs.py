"""The inputs of `colorize photo`: files, links, and all files in folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlparse

from colorize.datasets.exclusion import litter_reason
from colorize.errors import UsageError
from colorize.predict.outcome import Outcome
from colorize.storage.root import LEDGER, Storage

RECORDS = f"{LEDGER}/"  # files of a bulk run that are not images


@dataclass(frozen=True, slots=True)
class Input:
    """One image to color.

    Attributes:
        source: its path or link.
        name: of its copy, with the path below `folder`.
        folder: the folder given by the user; "" for a single file or link.
    """

    source: str
    name: str
    folder: str = ""


def find_inputs(sources: Sequence[str]) -> tuple[list[Input], list[Outcome]]:
    """The images to color, in order, and outcomes for files in folders that are skipped because of their names.

    Raises:
        UsageError: a folder has no files.
    """
    found: list[Input] = []
    skipped: list[Outcome] = []
    for source in sources:
        if is_remote(source) or not os.path.isdir(local_path(source)):  # noqa: PTH112 (no name makes this raise)
            found.append(Input(source, base_name(source)))
            continue
        before = len(found) + len(skipped)
        for each, reason in _in_folder(source):
            if reason:
                skipped.append(Outcome(True, each.source, f"skipped: {reason}"))
            else:
                found.append(each)
        if len(found) + len(skipped) == before:
            raise UsageError(f"there are no files in {source}: give images, or a folder with images")
    return found, skipped


def _in_folder(folder: str) -> Iterator[tuple[Input, str]]:
    """Each file below a folder, and why it is skipped, or ""."""
    storage = Storage(folder)
    for name in (entry.name for entry in storage.entries()):
        if not name.startswith(RECORDS):
            link = "a link to a folder" if storage.is_linked_folder(name) else ""
            yield Input(f"{folder.rstrip('/')}/{name}", name, folder), litter_reason(name) or link


def base_name(source: str) -> str:
    """The file name of a path or link, which may contain anything."""
    if is_link(source):
        with suppress(ValueError):  # fetching it reports the fault
            source = unquote(urlparse(source).path).replace("\0", "")
    name = PurePosixPath(source).name
    return "image" if name in ("", "..") else name


def is_link(source: str) -> bool:
    """Whether a source is an http(s) link."""
    return source.partition("://")[0].lower() in ("http", "https")


def is_remote(source: str) -> bool:
    """Whether a source is not a local path."""
    return "://" in source and not source.startswith("file://")


def local_path(source: str) -> Path:
    """The path of a source on disk."""
    return real_path(source.removeprefix("file://"))


def real_path(path: str | Path) -> Path:
    """The path with links resolved; does not raise for circular links, as `Path.resolve` does."""
    return Path(os.path.realpath(path))
