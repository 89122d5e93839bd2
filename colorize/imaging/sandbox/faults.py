"""Faults of images: an error code and a message."""

from __future__ import annotations

from dataclasses import dataclass

from colorize.errors import one_line
from colorize.imaging.formats import ImageDecodeError

OUT_OF_MEMORY = "decoding it, or rendering its copy, needs more memory than limits.memory_mb or the machine has"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why there is no result for an image: an error code of the manifest, and a message."""

    code: str
    message: str


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, even if a decoder reports it as an error of the image."""
    return isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError)


def known_fault(error: BaseException) -> tuple[str, str] | None:
    """Code and message if the exception is a known fault of an image, else None."""
    if is_out_of_memory(error):
        return "out_of_memory", OUT_OF_MEMORY
    return (error.code, str(error)) if isinstance(error, ImageDecodeError) else None


def fault_of(error: Exception) -> Fault:
    """The fault for any exception that an image has raised."""
    if known := known_fault(error):
        return Fault(*known)
    if isinstance(error, OSError):
        return Fault("unreadable", one_line(error))
    return Fault("unexpected", f"{type(error).__name__}: {one_line(error)}")
