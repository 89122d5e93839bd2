"""The spot provider with EC2's request model: its requests, and what happens when EC2 refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.stub import ANY, Stubber
from ray.autoscaler.node_launch_exception import NodeLaunchException

from colorize.cluster.spot import SpotFirst

SPOT = {"InstanceMarketOptions": {"MarketType": "spot"}}
CONFIG = {"InstanceType": "g6.2xlarge", "ImageId": "ami-1", "SubnetIds": ["subnet-1", "subnet-2"]}
ATTEMPTS = 5  # of Ray, over the zones


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> SpotFirst:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    return SpotFirst({"region": "eu-central-1", "cache_stopped_nodes": False}, "colorize")


@pytest.fixture
def ec2(provider: SpotFirst) -> Iterator[Stubber]:
    """EC2's client, which validates requests against the service's model and returns canned responses."""
    with Stubber(provider.ec2_fail_fast.meta.client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def request(count: int, market: dict[str, Any]) -> dict[str, Any]:
    fixed = {"ImageId": "ami-1", "InstanceType": "g6.2xlarge", "MinCount": 1, "MaxCount": count}
    return fixed | market | {"SubnetId": ANY, "TagSpecifications": ANY}


def refuse(ec2: Stubber, code: str) -> None:
    for _ in range(ATTEMPTS):
        ec2.add_client_error("run_instances", code, "none left")


def grant(ec2: Stubber, ids: list[str], count: int, market: dict[str, Any]) -> None:
    instances = [{"InstanceId": name, "State": {"Name": "pending"}} for name in ids]
    ec2.add_response("run_instances", {"Instances": instances}, request(count, market))


def test_spot_machines_are_used_where_available(provider: SpotFirst, ec2: Stubber) -> None:
    grant(ec2, ["i-1", "i-2"], 2, SPOT)
    assert set(provider.create_node(CONFIG | SPOT, {}, 2)) == {"i-1", "i-2"}


@pytest.mark.parametrize("code", ["InsufficientInstanceCapacity", "MaxSpotInstanceCountExceeded"])
def test_on_demand_machines_are_used_where_spot_is_refused(provider: SpotFirst, ec2: Stubber, code: str) -> None:
    refuse(ec2, code)
    grant(ec2, ["i-1", "i-2"], 2, {})
    assert set(provider.create_node(CONFIG | SPOT, {}, 2)) == {"i-1", "i-2"}


def test_missing_spot_capacity_is_filled_on_demand(provider: SpotFirst, ec2: Stubber) -> None:
    grant(ec2, ["i-1"], 3, SPOT)
    grant(ec2, ["i-2", "i-3"], 2, {})
    assert set(provider.create_node(CONFIG | SPOT, {}, 3)) == {"i-1", "i-2", "i-3"}


def test_the_next_request_tries_spot_again(provider: SpotFirst, ec2: Stubber) -> None:
    refuse(ec2, "InsufficientInstanceCapacity")
    grant(ec2, ["i-1"], 1, {})
    grant(ec2, ["i-2"], 1, SPOT)
    provider.create_node(CONFIG | SPOT, {}, 1)
    assert set(provider.create_node(CONFIG | SPOT, {}, 1)) == {"i-2"}


def test_other_errors_do_not_fall_back_to_on_demand(provider: SpotFirst, ec2: Stubber) -> None:
    refuse(ec2, "UnauthorizedOperation")
    with pytest.raises(NodeLaunchException):
        provider.create_node(CONFIG | SPOT, {}, 1)


def test_an_on_demand_type_stays_on_demand(provider: SpotFirst, ec2: Stubber) -> None:
    grant(ec2, ["i-1"], 1, {})
    assert set(provider.create_node(CONFIG, {}, 1)) == {"i-1"}
