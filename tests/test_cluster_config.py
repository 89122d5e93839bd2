"""`cluster.yaml` is what Ray's cluster launcher accepts, and fits the plans that the jobs make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from colorize.config import PoolSettings
from colorize.inference.plan import plan_stages

PATH = Path(__file__).parent.parent / "cluster.yaml"


@pytest.fixture
def config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(PATH.read_text())
    return loaded


def test_ray_accepts_it(config: dict[str, Any]) -> None:
    validate_config(prepare_config(config))


def test_ray_would_refuse_a_wrong_key(config: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="max_wrokers"):
        validate_config(prepare_config(config | {"max_wrokers": 3}))


def test_no_secret_is_in_it() -> None:
    text = PATH.read_text().lower()
    assert not [word for word in ("access_key", "secret", "password", "token") if word in text]


def test_the_smallest_and_the_largest_cluster_can_run_a_job(config: dict[str, Any]) -> None:
    workers = [kind for name, kind in config["available_node_types"].items() if name != config["head_node_type"]]
    for count in ("min_workers", "max_workers"):
        cpus = sum(kind["resources"]["CPU"] * kind[count] for kind in workers)
        gpus = sum(kind["resources"].get("GPU", 0) * kind[count] for kind in workers)
        plan = plan_stages(PoolSettings(), cpus, gpus)
        assert plan.device == ("cuda" if gpus else "cpu")
