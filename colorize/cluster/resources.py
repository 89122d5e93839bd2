"""What a cluster has, and what it can grow to."""

from __future__ import annotations

from collections.abc import Mapping

from ray._private.state import state


def most_resources() -> Mapping[str, float]:
    """What the connected cluster can grow to, by its configuration; empty where it does not grow."""
    return state.get_max_resources_from_cluster_config() or {}
