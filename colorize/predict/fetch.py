"""Single images by path, link or URL: of none is more read than `limits.max_bytes`."""

from __future__ import annotations

import posixpath
from dataclasses import replace

from colorize.errors import UsageError, one_line
from colorize.imaging.formats import Encoded, ImageDecodeError
from colorize.predict.inputs import Input, is_link
from colorize.storage.faults import why_unusable
from colorize.storage.links import LinkLimits, fetch_link
from colorize.storage.root import Storage

IN_MEMORY = 16 << 20  # bytes of a file that is read at once; a larger one is read piece by piece


def fetch(given: Input, allow_private: bool, max_bytes: int) -> Encoded:
    """The encoded image at a path, http(s) link or URL of a storage; out of a folder no link is followed.

    Raises:
        ImageDecodeError: `too_large`.
        OSError: there is none, or it cannot be read.
    """
    source = given.source
    if is_link(source):
        limits = LinkLimits(allow_private=allow_private)
        return fetch_link(source, replace(limits, max_bytes=min(limits.max_bytes, max_bytes)))
    try:
        storage = Storage(given.folder or source)
        folder, name = (storage, given.name) if given.folder else (storage.parent(), posixpath.basename(storage.root))
        return folder.load(name, -1, IN_MEMORY, max_bytes)
    except UsageError as error:  # one source's fault, not the command's
        raise OSError(str(error)) from None
    except ImageDecodeError:
        raise
    except Exception as error:  # every storage library has its own exceptions
        raise OSError(_reason(error, storage.is_local)) from error


def _reason(error: Exception, is_local: bool) -> str:
    """What went wrong, without the name, which stands before it already."""
    if not is_local:
        return why_unusable(error)
    known = error.strerror if isinstance(error, OSError) else None
    return known.lower() if known else one_line(error)
