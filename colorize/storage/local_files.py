"""Reads local files below a root without following links out of it.

An untrusted folder may contain a link to a private file, whose copy, hash or size would be published with the results.
Such links are only followed with `source.follow_links`. Links within the root are followed, because their targets are
inputs anyway.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


class LeadsOutError(OSError):
    """A name leads out of its root, by a link or by `..`."""


class LinkedFolderError(OSError):
    """A link to a folder, which is not an input: its files have other paths."""


def real_file(root: str, name: str, follow_links: bool) -> Path:
    """The path of the regular file `name` below `root`, with links resolved.

    Raises:
        LinkedFolderError: it is a link to a folder.
        LeadsOutError: it is outside of `root`, and `follow_links` is false.
        OSError: it does not exist, or is not a regular file (reading a pipe would block).
    """
    path = f"{root}/{name}"
    status = _without_links(root, name)
    if status is None:
        if is_linked_folder(path):
            raise LinkedFolderError("a link to a folder: its files are not inputs under this name")
        if not follow_links and _lies_outside(path, root):
            raise LeadsOutError(f"it leads out of {root}: replace the link by the file")
        path = os.path.realpath(path)
        status = os.stat(path)  # noqa: PTH116 (called per image; `pathlib` is several times slower)
    if not stat.S_ISREG(status.st_mode):
        raise OSError("a folder or device, not a regular file")
    return Path(path)


def known_status(root: str, name: str, follow_links: bool) -> os.stat_result | None:
    """The status of the file that `name` refers to; None for a broken link, or one out of `root` if not followed."""
    path = f"{root}/{name}"
    try:
        if (status := _without_links(root, name)) is not None:
            return status
        return None if not follow_links and _lies_outside(path, root) else Path(path).stat()
    except OSError:
        return None


def is_linked_folder(path: str) -> bool:
    """Whether a path is a link to a folder."""
    return os.path.islink(path) and os.path.isdir(path)  # noqa: PTH112, PTH114 (these never raise)


def _without_links(root: str, name: str) -> os.stat_result | None:
    """The status of a file, or None if its path below the root contains a link.

    Called per image; takes a tenth of the time of resolving the whole path.
    """
    path, status = root, None
    for part in name.split("/"):
        path = f"{path}/{part}"
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode) or part == "..":
            return None
    return status


def _lies_outside(path: str, root: str) -> bool:
    real, above = os.path.realpath(path), os.path.realpath(root)
    return real != above and not real.startswith(above.rstrip("/") + "/")
