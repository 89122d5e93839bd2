"""Spot instances with on-demand fallback: the node provider of `cluster.yaml`.

Ray 2.60 has no such fallback: if EC2 refuses a request at once ("no spot capacity"), its autoscaler repeats it with
the same node type.
"""

from __future__ import annotations

import logging
from typing import Any

from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler.node_launch_exception import NodeLaunchException

log = logging.getLogger(__name__)

MARKET = "InstanceMarketOptions"
# EC2's error codes for missing spot capacity, a low price, and the account's spot quota.
NO_SPOT = {
    "InsufficientInstanceCapacity",
    "SpotMaxPriceTooLow",
    "MaxSpotInstanceCountExceeded",
    "UnfulfillableCapacity",
}


class SpotFirst(AWSNodeProvider):
    """Ray's AWS provider, which starts on-demand instances where a request for spot instances fails."""

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        """Starts up to `count` instances and returns them by id, as Ray's provider does.

        Raises:
            NodeLaunchException: EC2 refuses for another reason, or refuses on-demand instances as well.
        """
        if MARKET not in node_config:
            return dict(super().create_node(node_config, tags, count))
        created: dict[str, Any] = {}
        try:
            created = dict(super().create_node(node_config, tags, count))
        except NodeLaunchException as error:
            if error.category not in NO_SPOT:
                raise
            log.warning("no spot instance (%s): %s; using on-demand instances", error.category, error.description)
        if len(created) < count:  # EC2 may start fewer
            on_demand = {key: value for key, value in node_config.items() if key != MARKET}
            created |= super().create_node(on_demand, tags, count - len(created))
        return created
