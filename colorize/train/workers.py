"""Sums over the processes of a data-parallel training; alone, a process is its own sum."""

from __future__ import annotations

from torch import Tensor, distributed


def sum_over_workers(value: Tensor) -> Tensor:
    """The sum of every worker's `value`, the same on all of them; all have to call it."""
    if not _is_one_of_several():
        return value
    total = value.clone()
    distributed.all_reduce(total)
    return total


def mean_over_workers(value: Tensor) -> Tensor:
    """The mean of every worker's `value`, the same on all of them; all have to call it."""
    return sum_over_workers(value) / worker_count()


def worker_count() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if _is_one_of_several() else 1


def _is_one_of_several() -> bool:
    return distributed.is_available() and distributed.is_initialized()
