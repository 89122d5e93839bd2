"""Translates storage errors to messages for users."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from colorize.errors import StoppedError, one_line

ENDPOINT = "AWS_ENDPOINT_URL"
CHECK_ENDPOINT = f"check the network, and {ENDPOINT} (unset: Amazon's)"
EXHAUSTED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # errors that affect all files
_EXHAUSTED_TEXT = re.compile(rf"\[Errno ({'|'.join(map(str, EXHAUSTED))})\] [^:\n]*(?:: '([^'\n]+)')?")


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Adds the path to errors that say that the storage is full or read-only, because a write does not know it."""
    try:
        yield
    except Exception as error:  # any class, because errors of another process may come as text
        found = _EXHAUSTED_TEXT.search(str(error))
        if found and not found[2]:
            raise OSError(number := int(found[1]), os.strerror(number), path) from error
        raise


def why_unusable(error: Exception) -> str:
    """Why a location cannot be read or written, and how to fix it if known."""
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, NotADirectoryError | FileExistsError):
        return "it is a file, or below one: give a folder"
    if isinstance(error, PermissionError):
        return f"access refused ({one_line(error)}); check the path, permissions and credentials"
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        return "no keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (other servers: AWS_ENDPOINT_URL, too)"
    return _why_unreachable(error) or one_line(error)


def _why_unreachable(error: Exception) -> str:
    """Which S3 server does not answer, and how to fix it; "" for other errors."""
    if type(error).__name__ in ("EndpointConnectionError", "ConnectTimeoutError", "ConnectionClosedError"):
        host = urlsplit(str(getattr(error, "kwargs", {}).get("endpoint_url", ""))).netloc or "the endpoint"
        return f"no server answers at {host}: {CHECK_ENDPOINT}"
    if isinstance(error, ValueError) and str(error).startswith("Invalid endpoint"):
        return f"{ENDPOINT} is not a URL ({one_line(error)}): it must begin with http:// or https://"
    return ""


def require_room(error: Exception) -> None:
    """Raises StoppedError if `error` affects all images, because the storage is full or read-only."""
    if reason := storage_exhausted(error):
        raise StoppedError(f"{reason}; files written before are complete") from error


def storage_exhausted(error: BaseException | None) -> str:
    """A message if `error` was caused by a full or read-only storage; else "".

    Ray wraps the exception of a task, sometimes more than once: in `cause`, as `__cause__`, or as text if it cannot be
    pickled.
    """
    queue, seen = [error], set[int]()
    while queue:
        fault = queue.pop(0)
        if fault is None or id(fault) in seen:
            continue
        seen.add(id(fault))
        if isinstance(fault, OSError) and fault.errno in EXHAUSTED:
            return f"{fault.filename or 'the output'}: {(fault.strerror or 'cannot be written').lower()}"
        inner = getattr(fault, "cause", None)
        queue += [inner if isinstance(inner, BaseException) else None, fault.__cause__, fault.__context__]
    found = _EXHAUSTED_TEXT.search(str(error))
    return f"{found[2] or 'the output'}: {os.strerror(int(found[1])).lower()}" if found else ""
