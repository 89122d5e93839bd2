"""Reads single images from a path, link or URL, up to `limits.max_bytes`."""

from __future__ import annotations

import posixpath
from dataclasses import replace

from colorize.errors import UsageError, one_line
from colorize.imaging.formats import Encoded, ImageDecodeError
from colorize.predict.inputs import Input, is_link
from colorize.storage.faults import why_unusable
from colorize.storage.links import LinkLimits, fetch_link
from colorize.storage.root import Storage

IN_MEMORY = 16 << 20  # bytes: larger files are read in place


def fetch(given: Input, allow_private: bool, max_bytes: int) -> Encoded:
    """The encoded image at a path, http(s) link or storage URL. Links out of an input folder are not followed.

    Raises:
        ImageDecodeError: `too_large`.
        OSError: it does not exist or cannot be read.
    """
    source = given.source
    if is_link(source):
        limits = LinkLimits(allow_private=allow_private)
        return fetch_link(source, replace(limits, max_bytes=min(limits.max_bytes, max_bytes)))
    try:
        storage = Storage(given.folder or source)
        folder, name = (storage, given.name) if given.folder else (storage.parent(), posixpath.basename(storage.root))
        return folder.load(name, -1, IN_MEMORY, max_bytes)
    except UsageError as error:  # an error of one source must not stop the command
        raise OSError(str(error)) from None
    except ImageDecodeError:
        raise
    except Exception as error:  # every storage library has its own exceptions
        raise OSError(_reason(error, storage.is_local)) from error


def _reason(error: Exception, is_local: bool) -> str:
    """The error without the file name, which the message has already."""
    if not is_local:
        return why_unusable(error)
    known = error.strerror if isinstance(error, OSError) else None
    return known.lower() if known else one_line(error)
