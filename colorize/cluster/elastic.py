"""A job on a cluster that grows and shrinks while it runs: the pool follows it in size, and the job in device.

Ray Data restarts what a lost node held and puts tasks on new nodes by itself. Two things it cannot do: raise a pool's
maximum, and turn predictors for CPUs into predictors for GPUs, or back where no GPU is left (they would wait for one
for ever). The first is done here while the job runs. For the second the job stops and goes on with another plan.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ray
from ray.data._internal.execution.execution_callback import ExecutionCallback

from colorize.cluster.plan import StagePlan, plan_stages
from colorize.cluster.settings import PoolSettings
from colorize.errors import UsageError

log = logging.getLogger("colorize")

LOOK_SECONDS = 2.0  # between two looks at the cluster


class PlanOutdated(Exception):  # noqa: N818  # no error: the job goes on
    """The cluster has had GPUs, or none, for long enough that the job should go on with another plan."""


def keep_quiet() -> None:
    """Keeps Ray Data from logging a change of plan as a fault with a traceback."""
    logging.getLogger("ray.data.exceptions").addFilter(_is_a_fault)


def _is_a_fault(record: logging.LogRecord) -> bool:
    return not isinstance(sys.exc_info()[1], PlanOutdated)


def plan_now(pool: PoolSettings) -> StagePlan | None:
    """The plan for the cluster as it is; None where it is too small for one, which may pass."""
    resources = ray.cluster_resources()
    try:
        return plan_stages(pool, resources.get("CPU", 0.0), resources.get("GPU", 0.0))
    except UsageError:
        return None


class Following(ExecutionCallback):
    """Watches the cluster from within Ray Data's execution, which calls it many times a second.

    Args:
        pool: the job's settings.
        device: of the present plan.
        patience: seconds that a cluster must have had GPUs, or none, before the job changes its device.
        look: makes the plan for the cluster as it is.
        clock: seconds.
    """

    def __init__(
        self,
        pool: PoolSettings,
        device: str,
        patience: float,
        look: Callable[[PoolSettings], StagePlan | None] = plan_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pool = pool
        self.device = device
        self.patience = patience
        self.look = look
        self.clock = clock
        self.looked = clock()
        self.other_since: float | None = None

    def on_execution_step(self, executor: Any) -> None:
        """Looks at the cluster every few seconds.

        Raises:
            PlanOutdated: the job should go on with another device; Ray Data passes it to whoever reads the results.
        """
        now = self.clock()
        if now - self.looked < min(LOOK_SECONDS, self.patience):
            return
        self.looked = now
        plan = self.look(self.pool)
        if plan is None:
            return
        if plan.device == self.device:
            self.other_since = None
            resize_pools(executor, plan.max_actors)
        elif self.other_since is None:
            self.other_since = now
        elif now - self.other_since >= self.patience:
            raise PlanOutdated(plan.device)


def resize_pools(executor: Any, size: int) -> None:
    """Sets how many actors the execution's pools may have. Ray 2.60 has no public way: without this one they stay."""
    for operator in getattr(executor, "_topology", {}):
        for pool in operator.get_autoscaling_actor_pools():
            config = getattr(pool, "_config", None)
            if config is not None and config.max_size != max(size, config.min_size):
                log.info("the cluster has changed: up to %d predictors", size)
                pool._config = replace(config, max_size=max(size, config.min_size))
