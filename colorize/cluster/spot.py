"""Spot machines first, on-demand machines where there are none: the node provider of `cluster.yaml`.

Ray 2.60 has no such fallback. Its autoscaler lowers a node type's rank only when a machine that it was given never
joins; a request that EC2 refuses at once ("no spot capacity") it repeats with the same node type.
"""

from __future__ import annotations

import logging
from typing import Any

from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler.node_launch_exception import NodeLaunchException

log = logging.getLogger(__name__)

MARKET = "InstanceMarketOptions"
# EC2's error codes for: no spot machine of this type in any zone, a price too low, the account's spot quota.
NO_SPOT = {
    "InsufficientInstanceCapacity",
    "SpotMaxPriceTooLow",
    "MaxSpotInstanceCountExceeded",
    "UnfulfillableCapacity",
}


class SpotFirst(AWSNodeProvider):
    """Ray's AWS provider; what spot cannot give it starts on demand, and the next request asks for spot again."""

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        """Starts up to `count` machines and returns them by id, as Ray's provider does.

        Raises:
            NodeLaunchException: EC2 refuses for another reason than missing spot machines, or on-demand ones as well.
        """
        if MARKET not in node_config:
            return dict(super().create_node(node_config, tags, count))
        created: dict[str, Any] = {}
        try:
            created = dict(super().create_node(node_config, tags, count))
        except NodeLaunchException as error:
            if error.category not in NO_SPOT:
                raise
            log.warning("no spot machine (%s): %s; taking on-demand ones", error.category, error.description)
        if len(created) < count:  # EC2 starts as many as it has
            on_demand = {key: value for key, value in node_config.items() if key != MARKET}
            created |= super().create_node(on_demand, tags, count - len(created))
        return created
