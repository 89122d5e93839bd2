"""Listings: names, sizes and identities of files, and walks through folders."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from colorize.storage.local_files import known_status

SORTED = 10_000  # entries of one folder that are sorted at a time


class Entry(NamedTuple):
    """A file below a root: its relative name, its size in bytes, and a value that changes with its content."""

    name: str
    size: int
    identity: str  # modification time and size on disk, ETag on S3


@dataclass(frozen=True)
class Page:
    """Entries as columns, to avoid millions of Python objects."""

    names: pa.Array
    sizes: pa.Array
    identities: pa.Array

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Page:
        """Raises UnicodeEncodeError for a name that is not UTF-8."""
        names, sizes, identities = zip(*entries, strict=True) if (entries := list(entries)) else ((), (), ())
        return cls(pa.array(names, pa.string()), pa.array(sizes, pa.int64()), pa.array(identities, pa.string()))

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Entry]:
        return map(Entry, *(column.to_pylist() for column in (self.names, self.sizes, self.identities)))

    def filter(self, mask: pa.Array) -> Page:
        return Page(*(column.filter(mask) for column in (self.names, self.sizes, self.identities)))


def outside(page: Page | Sequence[Entry], folder: str) -> Page | Sequence[Entry]:
    """The entries of a page that are not below a folder."""
    if isinstance(page, Page):
        return page.filter(pc.invert(pc.starts_with(page.names, f"{folder}/")))
    return [entry for entry in page if not entry.name.startswith(f"{folder}/")]


def identity_of(info: Mapping[str, Any]) -> str:
    """A value that changes with a file's content: its ETag, or modification time and size."""
    if tag := info.get("ETag"):
        return str(tag).strip('"')
    return f"{info.get('mtime') or info.get('LastModified') or ''}/{info.get('size', '')}"


def walk_local(folder: Path, root: Path, follow_links: bool) -> Iterator[Entry]:
    """All files below a local folder, recursively; a folder that cannot be listed is an entry, too.

    Links are entries and never walked into. Unless `follow_links`, a link out of `root` has no size and identity.
    """
    for item in _scan(folder):
        if isinstance(item, OSError):  # reading it will report the error
            yield Entry(folder.relative_to(root).as_posix(), 0, "")
        elif item.is_dir(follow_symlinks=False):
            yield from walk_local(Path(item.path), root, follow_links)
        else:
            yield _local_entry(item, root, follow_links)


def walk_remote(fs: Any, folder: str, root: str) -> Iterator[Entry]:
    """All files below a folder of an fsspec file system, recursively."""
    for parent, _, files in fs.walk(folder, detail=True, on_error="raise"):
        for base in sorted(filter(None, files)):
            name = posixpath.join(parent, base)[len(root) :].lstrip("/")
            yield Entry(name, int(files[base]["size"] or 0), identity_of(files[base]))


def _scan(folder: Path) -> Iterator[os.DirEntry[str] | OSError]:
    """The entries of a folder; an error of the listing is the last one."""
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


def _local_entry(item: os.DirEntry[str], root: Path, follow_links: bool) -> Entry:
    name = item.path[len(str(root)) :].lstrip("/")
    try:
        status = known_status(str(root), name, follow_links) if item.is_symlink() else item.stat()
    except OSError:  # removed since it was listed
        status = None
    return local_entry(name, status)


def local_entry(name: str, status: os.stat_result | None) -> Entry:
    """The entry of a local file, also if its status cannot be read: reading it will report the error."""
    if status is None:
        return Entry(name, 0, "")
    return Entry(name, status.st_size, identity_of({"mtime": status.st_mtime, "size": status.st_size}))
