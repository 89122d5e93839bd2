"""What a storage holds: each file's name, size and identity; and how a folder on disk is walked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colorize.storage.local_files import known_status


@dataclass(frozen=True, slots=True)
class Entry:
    """One file below a root: its relative name, its size in bytes, and what changes when its content does."""

    name: str
    size: int
    identity: str  # modification time and size on disk, ETag on S3


def identity_of(info: Mapping[str, Any]) -> str:
    """What changes when a file does, from what its file system says of it."""
    if tag := info.get("ETag"):
        return str(tag).strip('"')
    return f"{info.get('mtime') or info.get('LastModified') or ''}/{info.get('size', '')}"


def walk_local(folder: Path, root: Path, follow_links: bool) -> Iterator[Entry]:
    """Every file below a folder on disk, recursively; a folder that cannot be listed is an entry of its own.

    Links are entries, and never walked into. Of one that leads out of `root` nothing is told but its name, unless
    links are followed there.
    """
    try:
        with os.scandir(folder) as scan:
            items = sorted(scan, key=lambda item: item.name)
    except OSError:  # its row will say why it cannot be read
        yield Entry(folder.relative_to(root).as_posix(), 0, "")
        return
    for item in items:
        if item.is_dir(follow_symlinks=False):
            yield from walk_local(Path(item.path), root, follow_links)
        else:
            yield _local_entry(item, root, follow_links)


def _local_entry(item: os.DirEntry[str], root: Path, follow_links: bool) -> Entry:
    name = Path(item.path).relative_to(root).as_posix()
    try:
        status = known_status(str(root), name, follow_links) if item.is_symlink() else item.stat()
    except OSError:  # gone since it was listed
        status = None
    return local_entry(name, status)


def local_entry(name: str, status: os.stat_result | None) -> Entry:
    """A file on disk. One of which nothing is known is listed all the same: its row can say that it is unreadable."""
    if status is None:
        return Entry(name, 0, "")
    return Entry(name, status.st_size, identity_of({"mtime": status.st_mtime, "size": status.st_size}))
