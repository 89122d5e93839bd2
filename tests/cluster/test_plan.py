"""Plans of CPUs and GPUs for the stages: none can deadlock."""

from __future__ import annotations

import itertools

import pytest

from colorize.cluster.plan import plan_stages
from colorize.cluster.settings import PoolSettings
from colorize.errors import UsageError


def needed_cpus(cpus: float, gpus: float, **pool: object) -> float:
    """CPUs of the largest plan, with a load and a write task."""
    plan = plan_stages(PoolSettings.model_validate(pool), cpus, gpus)
    return plan.max_actors * plan.cpus_per_actor + 2 * plan.task_cpus


@pytest.mark.parametrize(("cpus", "gpus"), list(itertools.product([0.5, 1, 2, 3, 4, 16, 96], [0, 1, 8])))
def test_defaults_leave_room_for_loading_and_writing(cpus: float, gpus: float) -> None:
    plan = plan_stages(PoolSettings(), cpus, gpus)

    assert needed_cpus(cpus, gpus) <= cpus
    assert 1 <= plan.min_actors <= plan.max_actors
    assert plan.device == ("cuda" if gpus else "cpu")


@pytest.mark.parametrize(("given", "expected"), [(None, 3), (1, 1), (2, 2), (50, 5)])
def test_the_pool_grows_to_the_maximum_or_to_what_fits(given: int | None, expected: int) -> None:
    assert plan_stages(PoolSettings(max=given), 6, 0).max_actors == expected


@pytest.mark.parametrize(
    ("cpus", "may_grow", "expected"), [(0.5, False, 8), (2, False, 32), (2, True, 256), (64, False, 256)]
)
def test_large_jobs_have_tasks_for_all_cpus_until_the_end(cpus: float, may_grow: bool, expected: int) -> None:
    assert plan_stages(PoolSettings(), cpus, 0, may_grow=may_grow).least_tasks == expected


def test_gpus_determine_the_pool() -> None:
    assert plan_stages(PoolSettings(), 96, 8).max_actors == 8
    assert plan_stages(PoolSettings(gpus_per_actor=0.5), 96, 8).max_actors == 16
    assert plan_stages(PoolSettings(gpus_per_actor=2), 96, 8).max_actors == 4
    assert plan_stages(PoolSettings(), 4, 8).max_actors == 3  # GPUs without CPUs to feed them stay idle


def test_cpus_can_be_chosen_on_gpu_clusters() -> None:
    for pool in (PoolSettings(device="cpu"), PoolSettings(gpus_per_actor=0)):
        plan = plan_stages(pool, 8, 2)
        assert (plan.device, plan.gpus_per_actor) == ("cpu", 0)
        assert {"GPU"}.isdisjoint(key for bundle in plan.bundles() for key in bundle)


@pytest.mark.parametrize(
    ("pool", "cpus", "gpus", "message"),
    [
        ({"device": "cuda"}, 8, 0, "no GPU"),
        ({"device": "cuda", "gpus_per_actor": 0}, 8, 1, "contradicts"),
        ({"device": "cpu", "gpus_per_actor": 1}, 8, 1, "contradicts"),
        ({"min": 8}, 8, 0, "need 9 CPUs; the cluster has 8 CPUs"),
        ({"min": 3, "gpus_per_actor": 1}, 8, 2, "3 GPUs"),
        ({"cpus_per_actor": 2}, 2, 0, "need 3 CPUs"),
        ({"gpus_per_actor": 2}, 8, 1, "lower pool.min, pool.cpus_per_actor or pool.gpus_per_actor"),
    ],
)
def test_impossible_plans_are_refused(pool: dict[str, object], cpus: float, gpus: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan_stages(PoolSettings.model_validate(pool), cpus, gpus)


def test_a_plan_reserves_its_minimum() -> None:
    plan = plan_stages(PoolSettings(min=2, gpus_per_actor=0.5), 8, 1)

    assert plan.bundles() == [{"CPU": 1, "GPU": 0.5}, {"CPU": 1, "GPU": 0.5}, {"CPU": 0.5}, {"CPU": 0.5}]
