"""Loading and writing make way for predictors."""

from __future__ import annotations

import os

import pytest

from colorize.cluster.priority import NICER, yield_to_predictors


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_a_task_lowers_the_priority_of_its_worker_once() -> None:
    import ray

    @ray.remote
    def niceness() -> list[int]:
        before = os.nice(0)
        yield_to_predictors()
        yield_to_predictors()
        return [before, os.nice(0)]

    before, after = ray.get(niceness.remote())
    assert after == min(before + NICER, 19)


def test_other_processes_keep_their_priority() -> None:
    before = os.nice(0)
    yield_to_predictors()
    assert os.nice(0) == before
