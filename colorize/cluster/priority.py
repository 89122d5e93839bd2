"""The CPU priority of tasks beside predictors."""

from __future__ import annotations

import os
from functools import cache

NICER = 4  # than the predictors, which keep Ray's own niceness


@cache
def yield_to_predictors() -> None:
    """Lowers the priority of this Ray worker, once; does nothing in other processes.

    A predictor that waits for a CPU (or cannot feed its GPU) delays the whole job; loading ahead of it does not help.
    A worker belongs to one job. If Ray starts a predictor in it later, that predictor has the priority of the tasks.
    """
    import ray

    if ray.is_initialized() and ray._private.worker.global_worker.mode == ray.WORKER_MODE:
        os.nice(NICER)
