"""What a storage holds: each file's name, size and identity; and how a folder on disk is walked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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


def walk_local(folder: Path, root: Path) -> Iterator[Entry]:
    """Every file below a folder on disk, recursively; a folder that cannot be listed is an entry of its own."""
    try:
        with os.scandir(folder) as scan:
            items = sorted(scan, key=lambda item: item.name)
    except OSError:  # its row will say why it cannot be read
        yield Entry(folder.relative_to(root).as_posix(), 0, "")
        return
    for item in items:
        if item.is_dir(follow_symlinks=False):
            yield from walk_local(Path(item.path), root)
        else:
            yield _local_entry(item, root)


def _local_entry(item: os.DirEntry[str], root: Path) -> Entry:
    name = Path(item.path).relative_to(root).as_posix()
    try:
        status = item.stat()
    except OSError:  # a dangling link: listed, so that its row can say that it is unreadable
        return Entry(name, 0, "")
    return Entry(name, status.st_size, identity_of({"mtime": status.st_mtime, "size": status.st_size}))
