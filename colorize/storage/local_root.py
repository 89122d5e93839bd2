"""The one place where files below a folder on disk are written and removed: no link leads a write out of it.

Whoever else may write into an output can plant a link there, and what follows it destroys files elsewhere with the
rights of the person who runs the job. So the root is opened as its user named it, links in that name included, and
from there on each folder relative to the one above it, refused if it is a link. A file is made new under a name that
nobody can guess and renamed: what stood under its last name, a link for example, is replaced and never written to.
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

TEMPORARY_PREFIX = ".colorize-"  # a file under construction, renamed when whole

_FOLDER = os.O_DIRECTORY | getattr(os, "O_PATH", os.O_RDONLY)  # to name files below it; not every one may be listed
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class LocalRoot:
    """A folder on disk. Names are relative to it, with `/`; they were checked: no `..`, no empty part."""

    path: str

    @contextmanager
    def build(self, name: str) -> Iterator[IO[bytes]]:
        """A seekable binary file that becomes `name`, flushed and whole, when the block ends; never when it fails."""
        above, base = _split(name)
        with ExitStack() as opened:
            with self._named(name):  # and not what the block may raise
                folder = opened.enter_context(self._folder(above, make=True))
                file, draft = _new_file(folder)
            with ExitStack() as undo:
                undo.callback(_remove, draft, folder)
                with file, naming(f"{self.path}/{name}"):
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                with self._named(name):
                    os.replace(draft, base, src_dir_fd=folder, dst_dir_fd=folder)
                undo.pop_all()

    def draft(self, name: str) -> Draft:
        """A new empty file beside the place of `name`, for any process to write."""
        above = _split(name)[0]
        with self._named(name), self._folder(above, make=True) as folder:
            file, base = _new_file(folder)
            file.close()
        return Draft(self, f"{above}/{base}" if above else base)

    def rewrite(self, name: str) -> IO[bytes]:
        """An existing file, emptied, to be written in place: for drafts, whose names nobody else knows."""
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

    def growing(self, name: str) -> IO[bytes]:
        """A new empty file that stands as `name` from now on, to be written while others read it: a log."""
        above, base = _split(name)
        with self._named(name), self._folder(above, make=True) as folder:
            file, draft = _new_file(folder)
            os.replace(draft, base, src_dir_fd=folder, dst_dir_fd=folder)
        return file

    def private(self, name: str) -> int:
        """The descriptor of a file that only its owner can open, made if it is not there."""
        above, base = _split(name)
        with self._named(name), self._folder(above, make=True) as folder:
            return os.open(base, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=folder)

    def status(self, name: str) -> os.stat_result:
        """Of `name` itself, also where it is a link. Raises FileNotFoundError."""
        above, base = _split(name)
        with self._named(name), self._folder(above) as folder:
            return os.stat(base, dir_fd=folder, follow_symlinks=False)

    def delete(self, name: str) -> None:
        """Removes a file or link; one that is not there is no fault."""
        above, base = _split(name)
        with suppress(FileNotFoundError), self._named(name), self._folder(above) as folder:
            os.unlink(base, dir_fd=folder)

    def delete_tree(self, name: str) -> None:
        """Removes a folder and everything in it; links in it go, and not what they lead to. None there is no fault."""
        above, base = _split(name)
        with suppress(FileNotFoundError), self._named(name), self._folder(above) as folder:
            if _is_link(base, folder):
                raise _refusal(f"{self.path}/{name}")
            shutil.rmtree(base, dir_fd=folder)

    def delete_empty(self, name: str) -> None:
        """Removes a folder that holds nothing; any other stays."""
        above, base = _split(name)
        with suppress(OSError), self._folder(above) as folder:
            os.rmdir(base, dir_fd=folder)

    @contextmanager
    def left_as_found(self) -> Iterator[None]:
        """Removes the root, and folders above it, that the block made and left empty."""
        here = Path(self.path)
        missing = [folder for folder in (here, *here.parents) if not folder.exists()]
        try:
            yield
        finally:
            with suppress(OSError):  # one that holds something stays, and so do those above it
                for folder in missing:
                    folder.rmdir()

    def sweep(self) -> None:
        """Removes the files under construction that killed processes have left, wherever they lie."""
        with suppress(FileNotFoundError), self._folder("") as root:
            for _, _, names, folder in os.fwalk(".", dir_fd=root, follow_symlinks=False):
                for name in names:
                    if name.startswith(TEMPORARY_PREFIX):
                        _remove(name, folder)

    def links(self, name: str) -> list[str]:
        """`name` if that or a folder above it is a link, else the links that lie directly in it."""
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
        """The descriptor of a folder, reached without following a link below the root."""
        if make:
            Path(self.path).mkdir(parents=True, exist_ok=True)
        with ExitStack() as opened:
            folder = os.open(self.path, _FOLDER)
            opened.callback(os.close, folder)
            for depth, part in enumerate(parts := name.split("/") if name else []):
                folder = _enter(part, folder, make, f"{self.path}/{'/'.join(parts[: depth + 1])}")
                opened.callback(os.close, folder)
            yield folder

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Faults of the block with the whole path: relative to a descriptor the system knows its end only."""
        try:
            yield
        except OSError as error:
            if error.errno is not None and error.filename in (None, *name.split("/"), self.path):
                raise OSError(error.errno, error.strerror, f"{self.path}/{name}") from error
            raise


@dataclass(frozen=True, slots=True)
class Draft:
    """A file on this machine that is written by one process and published by another: pickles as its name."""

    root: LocalRoot
    name: str

    @property
    def path(self) -> Path:
        """Where it lies, to be read."""
        return Path(self.root.path, self.name)

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self.root.status(self.name).st_size

    def open(self) -> IO[bytes]:
        """To write it from its start; seekable."""
        return self.root.rewrite(self.name)

    def discard(self) -> None:
        """Removes it, if it is there still."""
        self.root.delete(self.name)


def temporary_draft() -> Draft:
    """An empty file in the system's folder for such, where only its owner can open it."""
    descriptor, path = tempfile.mkstemp(prefix=TEMPORARY_PREFIX.lstrip("."))
    os.close(descriptor)
    folder, name = os.path.split(path)
    return Draft(LocalRoot(folder), name)


def _enter(part: str, above: int, make: bool, path: str) -> int:
    """The descriptor of a folder in the folder `above`, made where it may be."""
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
    with suppress(FileExistsError):  # another process was faster
        os.mkdir(part, dir_fd=above)
    return os.open(part, flags, dir_fd=above)


def _refusal(path: str) -> OSError:
    return OSError(f"{path} is a link, which nothing is written through: remove the link")


def _is_link(name: str, folder: int) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _remove(name: str, folder: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def _split(name: str) -> tuple[str, str]:
    above, _, base = name.rpartition("/")
    return above, base


def _new_file(folder: int) -> tuple[IO[bytes], str]:
    """An empty file in a folder, and its name."""
    name = f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    return os.fdopen(os.open(name, _NEW, 0o666, dir_fd=folder), "wb"), name
