"""Memory limits per image."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import psutil

from colorize.imaging.formats import Encoded, ImageDecodeError, stored_pixels
from colorize.imaging.settings import LimitSettings

BYTES_PER_PIXEL = 12  # approximate maximum for decoding and coloring an image with 8 bits per sample
COEFFICIENT_BYTES = 6  # per pixel of a progressive JPEG, at any decoding scale


def may_exceed(pixels: int, limits: LimitSettings, bytes_per_pixel: int = BYTES_PER_PIXEL) -> bool:
    """Whether an image of this size may exceed the memory limit."""
    return bool(limits.memory_mb) and pixels * bytes_per_pixel > limits.memory_mb * 2**20


def decoding_may_exceed(data: Encoded, limits: LimitSettings, *, whole: bool = False) -> bool:
    """Whether decoding an image may exceed the memory limit.

    JPEGs are decoded at a fraction of their size unless `whole`, but a progressive one still needs all coefficients.
    """
    if not limits.memory_mb or not len(data):
        return False
    try:
        format, pixels, progressive = stored_pixels(data)
    except (ImageDecodeError, OSError, MemoryError):  # decoding will report the error
        return False
    if whole or format not in ("JPEG", "MPO"):
        return may_exceed(pixels, limits)
    return progressive and may_exceed(pixels, limits, COEFFICIENT_BYTES)


def is_plain(data: Encoded, limits: LimitSettings) -> bool:
    """Whether an image is a PNG or a non-progressive JPEG, whose cost is known from its header."""
    try:
        format, pixels, progressive = stored_pixels(data)
    except (ImageDecodeError, OSError, MemoryError):
        return False
    return format in ("JPEG", "PNG") and not progressive and not may_exceed(pixels, limits)


@contextmanager
def memory_limit(megabytes: int) -> Iterator[None]:
    """Limits the additional memory of this process within the block (0: no limit); beyond it MemoryError is raised.

    This limits address space, so memory that is allocated but never used counts, too.
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
    return psutil.Process(pid)  # takes three times as long as `memory_info`
