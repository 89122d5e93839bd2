"""How much memory a process may take for one image."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import psutil

from colorize.imaging.formats import Encoded, ImageDecodeError, stored_pixels
from colorize.imaging.settings import LimitSettings

BYTES_PER_PIXEL = 12  # that decoding and coloring an image takes at most, roughly; 16 bits a sample more
COEFFICIENT_BYTES = 6  # a pixel, of a progressive JPEG, at whatever fraction of its size it is decoded


def may_exceed(pixels: int, limits: LimitSettings, bytes_per_pixel: int = BYTES_PER_PIXEL) -> bool:
    """Whether an image of this size may need more than the memory that one is allowed."""
    return bool(limits.memory_mb) and pixels * bytes_per_pixel > limits.memory_mb * 2**20


def decoding_may_exceed(data: Encoded, limits: LimitSettings, *, whole: bool = False) -> bool:
    """Whether decoding an image may take more than its memory.

    Most JPEGs are decoded at a fraction of their size, unless they are wanted `whole`; a progressive one never is.
    """
    if not limits.memory_mb or not len(data):
        return False
    try:
        format, pixels, progressive = stored_pixels(data)
    except (ImageDecodeError, OSError, MemoryError):  # decoding it will say why
        return False
    if whole or format not in ("JPEG", "MPO"):
        return may_exceed(pixels, limits)
    return progressive and may_exceed(pixels, limits, COEFFICIENT_BYTES)


def is_plain(data: Encoded, limits: LimitSettings) -> bool:
    """Whether decoding an image needs no watching: a PNG or a JPEG of one pass, whose header says what it takes."""
    try:
        format, pixels, progressive = stored_pixels(data)
    except (ImageDecodeError, OSError, MemoryError):
        return False
    return format in ("JPEG", "PNG") and not progressive and not may_exceed(pixels, limits)


@contextmanager
def memory_limit(megabytes: int) -> Iterator[None]:
    """Within the block this process may take `megabytes` more than it has (0: any); what wants more gets MemoryError.

    Address space is what the system can limit, so memory that is asked for and never touched counts, too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    ceiling = _process(os.getpid()).memory_info().vms + megabytes * 2**20
    limits = [limit for limit in (ceiling if megabytes else soft, soft) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits, default=resource.RLIM_INFINITY), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@cache
def _process(pid: int) -> psutil.Process:
    return psutil.Process(pid)  # which takes three times as long as to ask it
