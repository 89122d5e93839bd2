"""Writes and deletes files below a local folder without following links. The only module that writes local files.

Other users who can write to an output could plant a link there, through which a job would overwrite files elsewhere
with its user's permissions. Therefore the root is opened by the user's path, including links, but each folder below
relative to its parent's descriptor, and links are refused. Files are created under a random name and renamed, which
replaces a link at the final name instead of following it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from colorize.storage.faults import naming
from colorize.storage.undo import on_failure

TEMPORARY_PREFIX = ".colorize-"  # for temporary files, which are renamed when complete

_FOLDER = os.O_DIRECTORY | getattr(os, "O_PATH", os.O_RDONLY)  # O_PATH also works for folders that cannot be listed
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class LocalRoot:
    """A local folder. Names are relative to it, with `/`, and must not have `..` or empty parts."""

    path: str

    @contextmanager
    def build(self, name: str) -> Iterator[IO[bytes]]:
        """A seekable binary file that is flushed and renamed to `name` when the block ends, and deleted if it fails."""
        above, base = _split(name)
        with ExitStack() as opened:
            with self._named(name):  # but not errors of the block
                folder = opened.enter_context(self._folder(above, make=True))
                file, draft = _new_file(folder)
            with on_failure(_remove, draft, folder):
                with file, naming(f"{self.path}/{name}"):
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                with self._named(name):
                    os.replace(draft, base, src_dir_fd=folder, dst_dir_fd=folder)

    def draft(self, name: str) -> Draft:
        """Creates an empty temporary file in the folder of `name`, for any process to write."""
        above = _split(name)[0]
        with self._named(name), self._folder(above, make=True) as folder:
            file, base = _new_file(folder)
            file.close()
        return Draft(self, f"{above}/{base}" if above else base)

    def rewrite(self, name: str) -> IO[bytes]:
        """Opens an existing file for writing and truncates it; for drafts, whose names are secret."""
        above, base = _split(name)
        with self._named(name), self._folder(above) as folder:
            descriptor = os.open(base, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, dir_fd=folder)
        return os.fdopen(descriptor, "wb")

    def move(self, old: str, new: str) -> None:
        """Flushes a file to disk and renames it."""
        (above_old, old_base), (above_new, new_base) = _split(old), _split(new)
        with self._named(new), self._folder(above_old) as source, self._folder(above_new, make=True) as target:
            with os.fdopen(os.open(old_base, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=source), "rb") as file:
                os.fsync(file.fileno())
            os.replace(old_base, new_base, src_dir_fd=source, dst_dir_fd=target)

    def open_log(self, name: str) -> IO[bytes]:
        """Opens a new, empty file `name` for writing, visible immediately; for logs."""
        above, base = _split(name)
        with self._named(name), self._folder(above, make=True) as folder:
            file, draft = _new_file(folder)
            os.replace(draft, base, src_dir_fd=folder, dst_dir_fd=folder)
        return file

    def open_private(self, name: str) -> int:
        """The descriptor of a file that only its owner can open, created if necessary."""
        above, base = _split(name)
        with self._named(name), self._folder(above, make=True) as folder:
            return os.open(base, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=folder)

    def status(self, name: str) -> os.stat_result:
        """The status of `name`, without following a link. Raises FileNotFoundError."""
        above, base = _split(name)
        with self._named(name), self._folder(above) as folder:
            return os.stat(base, dir_fd=folder, follow_symlinks=False)

    def delete(self, name: str) -> None:
        """Deletes a file or link, if it exists."""
        above, base = _split(name)
        with suppress(FileNotFoundError), self._named(name), self._folder(above) as folder:
            os.unlink(base, dir_fd=folder)

    def delete_tree(self, name: str) -> None:
        """Deletes a folder and everything in it, if it exists; links are deleted, not followed."""
        above, base = _split(name)
        with suppress(FileNotFoundError), self._named(name), self._folder(above) as folder:
            if _is_link(base, folder):
                raise _refusal(f"{self.path}/{name}")
            shutil.rmtree(base, dir_fd=folder)

    def delete_empty(self, name: str) -> None:
        """Deletes a folder if it is empty."""
        above, base = _split(name)
        with suppress(OSError), self._folder(above) as folder:
            os.rmdir(base, dir_fd=folder)

    @contextmanager
    def remove_created_folders(self) -> Iterator[None]:
        """Deletes the root and its parents if the block has created them and they are empty."""
        here = Path(self.path)
        missing = [folder for folder in (here, *here.parents) if not folder.exists()]
        try:
            yield
        finally:
            with suppress(OSError):  # stops at the first folder that is not empty
                for folder in missing:
                    folder.rmdir()

    def delete_temporary_files(self) -> None:
        """Deletes temporary files of killed processes, in all folders."""
        with suppress(FileNotFoundError), self._folder("") as root:
            for _, _, names, folder in os.fwalk(".", dir_fd=root, follow_symlinks=False):
                for name in names:
                    if name.startswith(TEMPORARY_PREFIX):
                        _remove(name, folder)

    def links(self, name: str) -> list[str]:
        """The first part of `name` that is a link, else the links directly in the folder `name`."""
        parts = name.split("/")
        for count in range(1, len(parts) + 1):
            if Path(self.path, *parts[:count]).is_symlink():
                return ["/".join(parts[:count])]
        try:
            with os.scandir(f"{self.path}/{name}") as scan:
                return sorted(f"{name}/{item.name}" for item in scan if item.is_symlink())
        except (FileNotFoundError, NotADirectoryError):
            return []

    @contextmanager
    def _folder(self, name: str, *, make: bool = False) -> Iterator[int]:
        """The descriptor of a folder, opened without following links below the root."""
        folder = self._opened(make)
        try:
            for depth, part in enumerate(parts := name.split("/") if name else []):
                above = folder
                folder = _enter(part, above, make, f"{self.path}/{'/'.join(parts[: depth + 1])}")
                os.close(above)
            yield folder
        finally:
            os.close(folder)

    def _opened(self, make: bool) -> int:
        """The descriptor of the root."""
        try:
            return os.open(self.path, _FOLDER)
        except FileNotFoundError:
            if not make:
                raise
        Path(self.path).mkdir(parents=True, exist_ok=True)
        return os.open(self.path, _FOLDER)

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Adds the whole path to errors of the block, which only have the path relative to a descriptor."""
        try:
            yield
        except OSError as error:
            if error.errno is not None and error.filename in (None, *name.split("/"), self.path):
                raise OSError(error.errno, error.strerror, f"{self.path}/{name}") from error
            raise


@dataclass(frozen=True, slots=True)
class Draft:
    """A picklable temporary file on this machine, which one process writes and another publishes."""

    root: LocalRoot
    name: str

    @property
    def path(self) -> Path:
        """The file's path, for reading."""
        return Path(self.root.path, self.name)

    @property
    def size(self) -> int:
        """The current size in bytes."""
        return self.root.status(self.name).st_size

    def open(self) -> IO[bytes]:
        """Truncates the file and opens it for writing; seekable."""
        return self.root.rewrite(self.name)

    def discard(self) -> None:
        """Deletes the file, if it still exists."""
        self.root.delete(self.name)


def temporary_draft() -> Draft:
    """An empty file in the system's temporary folder that only its owner can open."""
    descriptor, path = tempfile.mkstemp(prefix=TEMPORARY_PREFIX.lstrip("."))
    os.close(descriptor)
    folder, name = os.path.split(path)
    return Draft(LocalRoot(folder), name)


def _enter(part: str, above: int, make: bool, path: str) -> int:
    """The descriptor of a folder in the folder `above`; created if `make`."""
    flags = _FOLDER | os.O_NOFOLLOW
    try:
        return os.open(part, flags, dir_fd=above)
    except FileNotFoundError:
        if not make:
            raise
    except OSError:
        if _is_link(part, above):
            raise _refusal(path) from None
        raise
    with suppress(FileExistsError):  # created by another process
        os.mkdir(part, dir_fd=above)
    return os.open(part, flags, dir_fd=above)


def _refusal(path: str) -> OSError:
    return OSError(f"{path} is a link, and links are not followed when writing: remove the link")


def _is_link(name: str, folder: int) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _remove(name: str, folder: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def _split(name: str) -> tuple[str, str]:
    above, _, base = name.rpartition("/")
    return above, base


def _new_file(folder: int) -> tuple[IO[bytes], str]:
    """Creates an empty file in a folder; returns the file and its name."""
    name = f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    return os.fdopen(os.open(name, _NEW, 0o666, dir_fd=folder), "wb"), name
