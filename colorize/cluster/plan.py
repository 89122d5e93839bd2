"""Divides a cluster's CPUs and GPUs between the stages, before anything starts.

Actors start first and keep their CPUs. A pool that took all of them would starve the tasks before and after it, and
the job would hang: such a plan is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from colorize.cluster.settings import PoolSettings
from colorize.errors import UsageError

CPU_BATCH, GPU_BATCH = 8, 64
PREDICT_SHARE = 0.5  # of the CPUs, for predictors without a GPU: measured, see docs/performance.md
TASK_CPUS = 0.5  # loading and writing wait for I/O half of the time
TASKS_PER_CPU, MOST_TASKS = 16, 256  # of a stage, for all CPUs to be busy until the end; more would busy the driver


@dataclass(frozen=True, slots=True)
class StagePlan:
    """The resources of each stage. Ray Data grows the pool from `min_actors` on demand.

    `max_actors` fits the cluster as it is. With `follows_cluster` the pool may exceed it when nodes join; Ray Data's
    budget for each stage then keeps CPUs for loading and writing.
    """

    device: str  # "cpu" or "cuda"
    min_actors: int
    max_actors: int
    cpus_per_actor: float
    gpus_per_actor: float
    batch_size: int
    task_cpus: float  # of one load or write task
    follows_cluster: bool = False
    least_tasks: int = MOST_TASKS  # of a stage, if there are enough images

    @property
    def pool_limit(self) -> int | None:
        """The maximum pool size for Ray Data; None leaves it to Ray Data's resource budget."""
        return None if self.follows_cluster else self.max_actors

    def limit_for(self, batches: int) -> int:
        """`pool_limit`, but no more actors than batches."""
        return max(self.min_actors, min(batches, self.pool_limit or batches))

    def bundles(self) -> list[dict[str, float]]:
        """The resources required to start: the minimal pool, one load task, one write task."""
        actor = {"CPU": self.cpus_per_actor} | ({"GPU": self.gpus_per_actor} if self.gpus_per_actor else {})
        return [actor] * self.min_actors + [{"CPU": self.task_cpus}] * 2


def plan_stages(pool: PoolSettings, cpus: float, gpus: float, *, may_grow: bool = False) -> StagePlan:
    """Divides the cluster's CPUs and GPUs between the stages. Explicit settings win.

    Raises:
        UsageError: no such device, or the minimal pool leaves no CPUs for loading and writing.
    """
    device = _device(pool, gpus)
    gpus_per_actor = (1.0 if pool.gpus_per_actor is None else pool.gpus_per_actor) if device == "cuda" else 0.0
    cpus_per_actor = pool.cpus_per_actor or (1.0 if cpus >= 2 else cpus / 2)
    task_cpus = TASK_CPUS if cpus >= 2 else cpus / 4
    room = _room(cpus - 2 * task_cpus, cpus_per_actor, gpus, gpus_per_actor)
    by_share = max(1, math.floor(cpus * PREDICT_SHARE / cpus_per_actor))
    most = pool.max or max(1, pool.min or 0, room if device == "cuda" else min(room, by_share))
    plan = StagePlan(
        device=device,
        min_actors=pool.min or 1,
        max_actors=max(min(most, room), pool.min or 1),
        cpus_per_actor=cpus_per_actor,
        gpus_per_actor=gpus_per_actor,
        batch_size=pool.batch_size or (GPU_BATCH if device == "cuda" else CPU_BATCH),
        task_cpus=task_cpus,
        follows_cluster=may_grow and pool.max is None,
        least_tasks=MOST_TASKS if may_grow else min(MOST_TASKS, math.ceil(cpus * TASKS_PER_CPU)),
    )
    _require_room(plan, room, cpus, gpus)
    return plan


def _device(pool: PoolSettings, gpus: float) -> str:
    if pool.device == "cuda" and gpus <= 0:
        raise UsageError("pool.device=cuda, but the cluster has no GPU: use pool.device=auto or add a GPU node")
    if pool.device == "cuda" and pool.gpus_per_actor == 0:
        raise UsageError("pool.gpus_per_actor=0 contradicts pool.device=cuda: drop one")
    if pool.device == "cpu" and pool.gpus_per_actor:
        raise UsageError(f"pool.gpus_per_actor={pool.gpus_per_actor:g} contradicts pool.device=cpu: drop one")
    if pool.device == "auto":
        return "cuda" if gpus > 0 and pool.gpus_per_actor != 0 else "cpu"
    return pool.device


def _room(cpus: float, cpus_per_actor: float, gpus: float, gpus_per_actor: float) -> int:
    """Number of actors that fit."""
    by_cpu = math.floor(cpus / cpus_per_actor + 1e-6)
    return min(by_cpu, math.floor(gpus / gpus_per_actor + 1e-6)) if gpus_per_actor else by_cpu


def _require_room(plan: StagePlan, room: int, cpus: float, gpus: float) -> None:
    if plan.min_actors <= room:
        return
    tasks = 2 * plan.task_cpus
    need = f"{plan.min_actors * plan.cpus_per_actor + tasks:g} CPUs"
    if plan.gpus_per_actor:
        need += f" and {plan.min_actors * plan.gpus_per_actor:g} GPUs"
    raise UsageError(
        f"{plan.min_actors} predictor(s) of {plan.cpus_per_actor:g} CPU and {plan.gpus_per_actor:g} GPU, plus loading "
        f"and writing, need {need}; the cluster has {cpus:g} CPUs and {gpus:g} GPUs: "
        "lower pool.min, pool.cpus_per_actor or pool.gpus_per_actor, or add nodes"
    )
