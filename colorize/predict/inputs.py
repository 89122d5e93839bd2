"""What `colorize photo` is given: files and links as they are named, and of a folder every file below it."""

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

RECORDS = f"{LEDGER}/"  # what a bulk run leaves beside its images


@dataclass(frozen=True, slots=True)
class Input:
    """One image to color.

    Attributes:
        source: its path or link, as a person would type it.
        name: of its copy; the tree below a folder is kept.
        folder: the folder that it was found in; "" for a file or link that was named itself.
    """

    source: str
    name: str
    folder: str = ""


def find_inputs(sources: Sequence[str]) -> tuple[list[Input], list[Outcome]]:
    """The images that are meant, in order, and what is left out of folders for what it is called.

    Raises:
        UsageError: a folder without files.
    """
    found: list[Input] = []
    left_out: list[Outcome] = []
    for source in sources:
        if is_remote(source) or not os.path.isdir(local_path(source)):  # noqa: PTH112 (no name makes this raise)
            found.append(Input(source, base_name(source)))
            continue
        before = len(found) + len(left_out)
        for each, reason in _in_folder(source):
            if reason:
                left_out.append(Outcome(True, each.source, f"left out: {reason}"))
            else:
                found.append(each)
        if len(found) + len(left_out) == before:
            raise UsageError(f"there are no files in {source}: name images, or a folder of them")
    return found, left_out


def _in_folder(folder: str) -> Iterator[tuple[Input, str]]:
    """Each file below a folder, and why it is left out, or ""."""
    storage = Storage(folder)
    for name in (entry.name for entry in storage.entries()):
        if not name.startswith(RECORDS):
            link = "a link to a folder" if storage.is_linked_folder(name) else ""
            yield Input(f"{folder.rstrip('/')}/{name}", name, folder), litter_reason(name) or link


def base_name(source: str) -> str:
    """The file's name at the end of a path or link, whose author may have written anything there."""
    if is_link(source):
        with suppress(ValueError):  # fetching it reports the fault
            source = unquote(urlparse(source).path).replace("\0", "")
    name = PurePosixPath(source).name
    return "image" if name in ("", "..") else name


def is_link(source: str) -> bool:
    """Whether a source is an http(s) link."""
    return source.partition("://")[0].lower() in ("http", "https")


def is_remote(source: str) -> bool:
    """Whether a source lies elsewhere than on disk."""
    return "://" in source and not source.startswith("file://")


def local_path(source: str) -> Path:
    """The path of a source on disk."""
    return real_path(source.removeprefix("file://"))


def real_path(path: str | Path) -> Path:
    """Where a path leads; one of links in a circle, for which `Path.resolve` raises, is a place as well."""
    return Path(os.path.realpath(path))
