"""How much memory a child process may take for one picture."""

from __future__ import annotations

import resource

import psutil


def limit_memory(megabytes: int) -> None:
    """Lets this process take `megabytes` more than it has now; what asks for more gets MemoryError or dies of it."""
    ceiling = psutil.Process().memory_info().vms + megabytes * 2**20
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (ceiling if hard == resource.RLIM_INFINITY else min(ceiling, hard), hard))
