"""Single images by path, link or URL: of none is more read than `limits.max_bytes`."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from pathlib import Path

from colorize.errors import UsageError, one_line
from colorize.imaging.formats import Encoded
from colorize.predict.destinations import is_link
from colorize.storage.links import LinkLimits, fetch_link
from colorize.storage.root import Storage

IN_MEMORY = 16 << 20  # bytes of a file that is read at once; a larger one is read piece by piece


def fetch(source: str, allow_private: bool, max_bytes: int) -> Encoded:
    """The encoded image at a path, http(s) link or URL of a storage.

    Raises:
        ImageDecodeError: `too_large`.
        OSError: there is none, or it cannot be read.
    """
    if is_link(source):
        limits = LinkLimits(allow_private=allow_private)
        return fetch_link(source, replace(limits, max_bytes=min(limits.max_bytes, max_bytes)))
    if "://" not in source and Path(source).is_dir():
        raise IsADirectoryError("a folder: color what is in it with `colorize bulk`")
    try:
        storage = Storage(source)
        return storage.parent().load(posixpath.basename(storage.root), -1, IN_MEMORY, max_bytes)
    except UsageError as error:  # one source's fault, not the command's
        raise OSError(str(error)) from None
    except OSError as error:  # its own text may hold the name, which stands before it already
        raise OSError((error.strerror or one_line(error)).lower() if storage.is_local else one_line(error)) from error
