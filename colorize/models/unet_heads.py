"""`unet` by its head: what the registry calls."""

from __future__ import annotations

from typing import Any

from colorize.errors import UsageError
from colorize.models.unet import Unet
from colorize.models.unet_queries import UnetQueries
from colorize.models.unet_regression import UnetRegression
from colorize.models.unet_trunk import UnetTrunk
from colorize.settings import nearest

_HEADS: dict[str, type[UnetTrunk]] = {"bins": Unet, "regression": UnetRegression, "queries": UnetQueries}


def create_unet(head: str = "bins", **args: Any) -> UnetTrunk:
    """Our network with one of its heads.

    Args:
        head: "bins" (the default model's), "regression" or "queries".
        args: of that head's class.

    Raises:
        UsageError: no such head.
    """
    if head not in _HEADS:
        raise UsageError(f"unet: head={head!r}{nearest(head, sorted(_HEADS))}")
    return _HEADS[head](**args)
