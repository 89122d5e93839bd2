"""What a storage's faults mean for the person who named the place."""

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
EXHAUSTED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # faults that the next file would meet, too
_EXHAUSTED_TEXT = re.compile(rf"\[Errno ({'|'.join(map(str, EXHAUSTED))})\] [^:\n]*(?:: '([^'\n]+)')?")


@contextmanager
def naming(path: str) -> Iterator[None]:
    """A fault that says that the storage is full or read-only names the file: a write itself knows no name."""
    try:
        yield
    except Exception as error:  # of whatever class: another process may have written, whose fault came as text
        found = _EXHAUSTED_TEXT.search(str(error))
        if found and not found[2]:
            raise OSError(number := int(found[1]), os.strerror(number), path) from error
        raise


def why_unusable(error: Exception) -> str:
    """Why a place cannot be read or written, and what to do, where that is known."""
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, NotADirectoryError | FileExistsError):
        return "it is a file, or lies below one: name a folder"
    if isinstance(error, PermissionError):
        return f"access refused ({one_line(error)}); check the path, permissions and credentials"
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        return "no keys are set: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (other servers: AWS_ENDPOINT_URL, too)"
    return _why_unreachable(error) or one_line(error)


def _why_unreachable(error: Exception) -> str:
    """Which S3 server does not answer, and what to do; "" where that is not the fault."""
    if type(error).__name__ in ("EndpointConnectionError", "ConnectTimeoutError", "ConnectionClosedError"):
        host = urlsplit(str(getattr(error, "kwargs", {}).get("endpoint_url", ""))).netloc or "the endpoint"
        return f"no server answers at {host}: {CHECK_ENDPOINT}"
    if isinstance(error, ValueError) and str(error).startswith("Invalid endpoint"):
        return f"{ENDPOINT} is no URL of a server ({one_line(error)}): begin it with http:// or https://"
    return ""


def require_room(error: Exception) -> None:
    """Raises StoppedError where `error` is no fault of one image: the storage can take no other either."""
    if reason := storage_exhausted(error):
        raise StoppedError(f"{reason}; what was written before is whole") from error


def storage_exhausted(error: BaseException | None) -> str:
    """What a person should know where the storage can take no file at all (full, read-only) behind `error`; else "".

    Ray wraps what a task raised, more than once at times: it keeps it in `cause` or as the exception's cause, or, where
    the exception does not pickle, as text only.
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
