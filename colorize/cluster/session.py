"""Connects to or starts a Ray cluster, and checks that a plan can run on it."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil
import ray
from ray._private.node import Node
from ray._private.ray_constants import DASHBOARD_ADDRESS, KV_NAMESPACE_DASHBOARD
from ray._private.state import state
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError, RpcError
from ray.experimental.internal_kv import _internal_kv_put
from ray.util.placement_group import placement_group, remove_placement_group

from colorize.cluster.plan import StagePlan, plan_stages
from colorize.cluster.settings import PoolSettings
from colorize.errors import UsageError, one_line

STORE_BYTES = 2 << 30  # streaming jobs hold few blocks
CONNECT_SECONDS = 5.0
_OF_TOKENS = "unauthenticated", "authentication token", "invalidauthtoken"  # in errors of several classes
_MONITORS = "start_api_server", "start_monitor", "start_log_monitor"  # methods of Ray's `Node`, as of 2.60


@contextmanager
def ray_session(address: str | None) -> Iterator[bool]:
    """Connects to the cluster at `address` or `RAY_ADDRESS` ("auto": on this machine), or starts a local one.

    Yields whether the cluster may grow; a local one does not. Stops a local cluster at the end, and reuses an existing
    connection.
    """
    if ray.is_initialized():
        yield True
        return
    may_grow = _connect(address)
    try:
        yield may_grow
    finally:
        ray.shutdown()


def _connect(address: str | None) -> bool:
    import ray.data  # sets its logger's level; not at the top, as it takes a second that some runs do not need

    logging.getLogger("ray").setLevel(logging.ERROR)  # notices about our own settings
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised anyway
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # warnings about Ray Data's own actors
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address not in (None, "local"):
        _connect_to(address)
        return True
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _keep_token_here()
    store = min(STORE_BYTES, int(psutil.virtual_memory().available * 0.2))
    with Path(os.devnull).open("wb") as nowhere, _stderr_into(nowhere), _without_monitors():
        ray.init(
            "local",
            object_store_memory=store,
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    # Ray Train queries the dashboard for the state of a training. Without an address it would wait for one, 12 seconds
    # at the end of each training. At this address nothing listens, so the query fails at once.
    _internal_kv_put(DASHBOARD_ADDRESS, "127.0.0.1:0", namespace=KV_NAMESPACE_DASHBOARD)
    return False


@contextmanager
def _without_monitors() -> Iterator[None]:
    """Starts a local cluster without its monitors, which take 2 seconds of CPU and are useless to it.

    They are the dashboard's server (which Ray starts even without a dashboard, and waits for), the autoscaler's
    monitor and the log monitor.
    """
    names = [name for name in _MONITORS if hasattr(Node, name)]
    kept = {name: getattr(Node, name) for name in names}
    for name in names:
        setattr(Node, name, _nothing)
    try:
        yield
    finally:
        for name, method in kept.items():
            setattr(Node, name, method)


def _nothing(node: Node, **options: object) -> None:
    """Replaces a method of `Node`."""


def _connect_to(address: str) -> None:
    """Connects to a running cluster. Raises UsageError if there is none or it refuses."""
    with tempfile.TemporaryFile() as stderr:
        try:
            _require_listener(address)
            with _stderr_into(stderr):
                _require_token(address)
                ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
        except AuthenticationError:
            raise _token_refused(address) from None
        except (OSError, ValueError, RuntimeError) as error:
            stderr.seek(0)
            message = f"{error} {stderr.read().decode(errors='replace')}".lower()  # the reason may only be in Ray's log
            if any(word in message for word in _OF_TOKENS):
                raise _token_refused(address) from None
            reason = (getattr(error, "strerror", None) or one_line(error)).lower()
            raise UsageError(
                f"no Ray cluster answers at {address} ({reason}): check the address, or drop --ray to run here"
            ) from None


@contextmanager
def _stderr_into(file: IO[bytes]) -> Iterator[None]:
    """Redirects stderr of Ray's C++ code during start-up. Errors are raised anyway."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _keep_token_here() -> None:
    """Makes a local cluster use a token that only this process and its children know.

    Otherwise Ray writes one into the home folder, and every later `ray start --head` there requires it.
    """
    if not (os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home().joinpath(".ray/auth_token").exists()):
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _require_token(address: str) -> None:
    """Raises AuthenticationError at once if the head refuses our token; Ray would ask 20 times, for 22 seconds."""
    if address != "auto" and "://" not in address:
        with suppress(RpcError):  # a busy head: Ray asks again
            GcsClient(address=address)


def _token_refused(address: str) -> UsageError:
    return UsageError(
        f"the Ray cluster at {address} requires a token, and got none or a wrong one: export RAY_AUTH_MODE=token, and "
        "the token as RAY_AUTH_TOKEN or in ~/.ray/auth_token (`ray get-auth-token` shows it on the head)"
    )


def _require_listener(address: str) -> None:
    """Raises OSError within seconds if nothing listens; Ray would retry for minutes."""
    if address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


def plan_for_cluster(pool: PoolSettings, wait_seconds: float, may_grow: bool) -> StagePlan:
    """A plan that fits the connected cluster and can start now.

    Waits up to `wait_seconds` for a growing cluster to be large enough, then briefly reserves the plan's minimum:
    without these resources the job would hang.

    Raises:
        UsageError: the cluster is too small or busy.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        resources = ray.cluster_resources()
        try:
            plan = plan_stages(pool, resources.get("CPU", 0.0), resources.get("GPU", 0.0), may_grow=may_grow)
            break
        except UsageError:
            if time.monotonic() >= deadline or not may_grow:
                raise
            time.sleep(1)
    _require_free(plan, max(5.0, deadline - time.monotonic()))
    return plan


def most_resources() -> Mapping[str, float]:
    """The maximum that the connected cluster is configured to grow to; empty if it does not grow."""
    return state.get_max_resources_from_cluster_config() or {}


def _require_free(plan: StagePlan, seconds: float) -> None:
    group = placement_group(plan.bundles(), strategy="PACK")
    try:
        if group.wait(seconds):
            return
    finally:
        remove_placement_group(group)
    free = ray.available_resources()
    raise UsageError(
        f"the cluster did not have {_total(plan)} free within {seconds:.0f} s (free now: "
        f"{free.get('CPU', 0):g} CPUs, {free.get('GPU', 0):g} GPUs): stop other jobs, lower pool.min, "
        "or wait longer with --set run.start_seconds=..."
    )


def _total(plan: StagePlan) -> str:
    cpus = sum(bundle["CPU"] for bundle in plan.bundles())
    gpus = sum(bundle.get("GPU", 0.0) for bundle in plan.bundles())
    return f"{cpus:g} CPUs and {gpus:g} GPUs" if gpus else f"{cpus:g} CPUs"
