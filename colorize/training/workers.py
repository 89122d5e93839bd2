"""Sums over the processes of a data-parallel training; alone, a process is its own sum."""

from __future__ import annotations

from torch import Tensor, distributed


def sum_over_workers(value: Tensor) -> Tensor:
    """The sum of every worker's `value`, the same on all of them; all have to call it."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    total = value.clone()
    distributed.all_reduce(total)
    return total


def mean_over_workers(value: Tensor) -> Tensor:
    """The mean of every worker's `value`, the same on all of them; all have to call it."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    return sum_over_workers(value) / distributed.get_world_size()
