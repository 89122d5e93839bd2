"""What a storage holds: each file's name, size and identity; and how a folder on disk is walked."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

SORTED = 10_000  # entries of one folder that are put in order at once: a larger one comes in runs of so many


@dataclass(frozen=True, slots=True)
class Entry:
    """One file below a root: its relative name, its size in bytes, and what changes when its content does."""

    name: str
    size: int
    identity: str  # modification time and size on disk, ETag on S3
    excluded: str = ""  # why it is no file to read, if it is none


def identity_of(info: Mapping[str, Any]) -> str:
    """What changes when a file does, from what its file system says of it."""
    if tag := info.get("ETag"):
        return str(tag).strip('"')
    return f"{info.get('mtime') or info.get('LastModified') or ''}/{info.get('size', '')}"


def walk_local(folder: Path, root: Path) -> Iterator[Entry]:
    """Every file below a folder on disk, recursively; a folder that cannot be listed is an entry of its own.

    Links to folders are not followed: they may lead in circles, or out of the root.
    """
    for item in _scan(folder):
        if isinstance(item, OSError):  # its row will say why it cannot be read
            yield Entry(folder.relative_to(root).as_posix(), 0, "")
        elif item.is_dir(follow_symlinks=False):
            yield from walk_local(Path(item.path), root)
        else:
            yield _local_entry(item, root)


def walk_remote(fs: Any, folder: str, root: str) -> Iterator[Entry]:
    """Every file below a folder of an fsspec file system, recursively; an object store has a listing of its own."""
    for parent, _, files in fs.walk(folder, detail=True, on_error="raise"):
        for base in sorted(filter(None, files)):
            name = posixpath.join(parent, base)[len(root) :].lstrip("/")
            yield Entry(name, int(files[base]["size"] or 0), identity_of(files[base]))


def _scan(folder: Path) -> Iterator[os.DirEntry[str] | OSError]:
    """What lies in a folder; a fault that ends the listing comes last."""
    with ExitStack() as stack:
        try:
            scan = stack.enter_context(os.scandir(folder))
            items = _next_items(scan)
        except OSError as error:
            yield error
            return
        while items:
            yield from items
            try:
                items = _next_items(scan)
            except OSError as error:
                yield error
                return


def _next_items(scan: Iterator[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    return sorted(islice(scan, SORTED), key=lambda item: item.name)


def _local_entry(item: os.DirEntry[str], root: Path) -> Entry:
    name = item.path[len(str(root)) :].lstrip("/")
    try:
        status = item.stat()
        is_folder = item.is_dir()
    except OSError:  # a dangling link: listed, so that its row can say that it is unreadable
        return Entry(name, 0, "")
    if is_folder:
        return Entry(name, 0, "", f"a link to a folder ({os.path.realpath(item.path)}), which is not followed")
    return Entry(name, status.st_size, identity_of({"mtime": status.st_mtime, "size": status.st_size}))
