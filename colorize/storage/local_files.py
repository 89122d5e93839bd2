"""Files on disk below a root, as those see them who read: a link among them leads nowhere out of the root.

A folder of strangers' images may hold a link to a secret, of which a copy, a hash or a length would be published with
the results. What lies outside is looked at only where the person who runs the job says so. A link within the root is
followed: what it leads to is an input anyway.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


class LeadsOutError(OSError):
    """A name that leads out of its root: by a link, or by `..`."""


class LinkedFolderError(OSError):
    """A link to a folder, which is nothing to read: what is in it lies elsewhere, and is colored from there."""


def real_file(root: str, name: str, follow_links: bool) -> Path:
    """Where the regular file `name` below `root` really lies.

    Raises:
        LinkedFolderError: it is a link to a folder, wherever that may be.
        LeadsOutError: it lies outside of `root`, and links are not to be followed there.
        OSError: there is none, or it is no regular file: reading a pipe would never end.
    """
    path = f"{root}/{name}"
    status = _without_links(root, name)
    if status is None:
        if is_linked_folder(path):
            raise LinkedFolderError("a link to a folder: what is in it is no input here")
        if not follow_links and _lies_outside(path, root):
            raise LeadsOutError(f"it leads out of {root}: put the file itself there")
        path = os.path.realpath(path)
        status = os.stat(path)  # noqa: PTH116 (for each image: `pathlib` takes several times as long)
    if not stat.S_ISREG(status.st_mode):
        raise OSError("a folder or device, not a regular file")
    return Path(path)


def known_status(root: str, name: str, follow_links: bool) -> os.stat_result | None:
    """Size and times of what `name` leads to; None for a link to nowhere, or out of `root` if that is not followed."""
    path = f"{root}/{name}"
    try:
        if (status := _without_links(root, name)) is not None:
            return status
        return None if not follow_links and _lies_outside(path, root) else Path(path).stat()
    except OSError:
        return None


def is_linked_folder(path: str) -> bool:
    """Whether a link to a folder stands there."""
    return os.path.islink(path) and os.path.isdir(path)  # noqa: PTH112, PTH114 (these raise nothing)


def _without_links(root: str, name: str) -> os.stat_result | None:
    """The status of a file that is reached from the root through folders alone; None if there is a link on the way.

    Asked for each image, and a tenth of the time that it takes to resolve all links of the whole path.
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
