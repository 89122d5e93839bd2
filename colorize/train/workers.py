"""Reductions over data-parallel workers; no-ops in a single process."""

from __future__ import annotations

from torch import Tensor, distributed


def sum_over_workers(value: Tensor) -> Tensor:
    """All-reduces the sum of `value`; all workers must call it."""
    if not _is_one_of_several():
        return value
    total = value.clone()
    distributed.all_reduce(total)
    return total


def mean_over_workers(value: Tensor) -> Tensor:
    """All-reduces the mean of `value`; all workers must call it."""
    return sum_over_workers(value) / worker_count()


def worker_count() -> int:
    """Number of workers."""
    return distributed.get_world_size() if _is_one_of_several() else 1


def _is_one_of_several() -> bool:
    return distributed.is_available() and distributed.is_initialized()
