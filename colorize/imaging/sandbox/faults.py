"""Why there is no result for an image: a short code that can be counted, and a sentence."""

from __future__ import annotations

from dataclasses import dataclass

from colorize.errors import one_line
from colorize.imaging.formats import ImageDecodeError

OUT_OF_MEMORY = "decoding it, or making its copy, takes more memory than limits.memory_mb allows or the machine has"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why there is no result for an image: an error code of the manifest, and a sentence."""

    code: str
    message: str


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, also where a decoder's wrapper calls that a fault of the image."""
    return isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError)


def known_fault(error: BaseException) -> tuple[str, str] | None:
    """Code and message of what can be told of an image's fault; None for a fault of another kind."""
    if is_out_of_memory(error):
        return "out_of_memory", OUT_OF_MEMORY
    return (error.code, str(error)) if isinstance(error, ImageDecodeError) else None


def fault_of(error: Exception) -> Fault:
    """What any exception says of the image that was worked on."""
    if known := known_fault(error):
        return Fault(*known)
    if isinstance(error, OSError):
        return Fault("unreadable", one_line(error))
    return Fault("unexpected", f"{type(error).__name__}: {one_line(error)}")
