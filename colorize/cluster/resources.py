"""The resources of an autoscaling cluster."""

from __future__ import annotations

from collections.abc import Mapping

from ray._private.state import state


def most_resources() -> Mapping[str, float]:
    """The maximum that the connected cluster is configured to grow to; empty if it does not grow."""
    return state.get_max_resources_from_cluster_config() or {}
