"""How much memory a child process may take for one picture."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import psutil


@contextmanager
def memory_limit(megabytes: int) -> Iterator[None]:
    """Within the block this process may take `megabytes` more than it has (0: any); what wants more gets MemoryError.

    Address space is what the system can limit, so memory that is asked for and never touched counts, too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    ceiling = psutil.Process().memory_info().vms + megabytes * 2**20
    limits = [limit for limit in (ceiling if megabytes else soft, soft) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits, default=resource.RLIM_INFINITY), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
