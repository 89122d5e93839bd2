"""Getting hold of a Ray cluster, and being sure that a plan can run on it before anything depends on it."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil
import ray
from ray.exceptions import AuthenticationError
from ray.util.placement_group import placement_group, remove_placement_group

from colorize.cluster.plan import StagePlan, plan_stages
from colorize.cluster.settings import PoolSettings
from colorize.errors import UsageError, one_line

STORE_BYTES = 2 << 30  # a streaming job keeps few blocks: a larger store only takes memory from the images
CONNECT_SECONDS = 5.0
_OF_TOKENS = "unauthenticated", "authentication token", "invalidauthtoken"  # Ray's faults are of several classes


@contextmanager
def ray_session(address: str | None) -> Iterator[bool]:
    """Connects to the cluster at `address` (or `RAY_ADDRESS`; "auto" finds one on this machine), else starts one.

    A cluster that was started here is stopped at the end; a connection that already existed is left alone.
    Yields whether the cluster may grow: any may but the one that this process started for itself.
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
    logging.getLogger("ray").setLevel(logging.ERROR)  # its notices are about settings that this program made
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors are raised, too, and then said in one line
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # or Ray Data's own actors are warned of on stderr
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address not in (None, "local"):
        _connect_to(address)
        return True
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a local run tells nobody anything
    _keep_token_here()
    store = min(STORE_BYTES, int(psutil.virtual_memory().available * 0.2))
    with Path(os.devnull).open("wb") as nowhere, _stderr_into(nowhere):
        ray.init(
            "local",
            object_store_memory=store,
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    return False


def _connect_to(address: str) -> None:
    """Connects to a running cluster. Raises UsageError where there is none, or where it refuses this process."""
    with tempfile.TemporaryFile() as said:
        try:
            _require_listener(address)
            with _stderr_into(said):
                ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
        except AuthenticationError:
            raise _token_refused(address) from None
        except (OSError, ValueError, RuntimeError) as error:
            said.seek(0)
            words = f"{error} {said.read().decode(errors='replace')}".lower()  # only Ray's log may name the reason
            if any(word in words for word in _OF_TOKENS):
                raise _token_refused(address) from None
            reason = (getattr(error, "strerror", None) or one_line(error)).lower()
            raise UsageError(
                f"no Ray cluster answers at {address} ({reason}): check the address, or drop --ray to run here"
            ) from None


@contextmanager
def _stderr_into(file: IO[bytes]) -> Iterator[None]:
    """Keeps what Ray's code in C++ says of a start off the terminal; what goes wrong is raised all the same."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _keep_token_here() -> None:
    """Has a cluster that is started here ask for a token that only this process and its children know.

    Ray would write one into the home folder, and each `ray start --head` after that would ask for it, which
    `ray job submit` sends only where RAY_AUTH_MODE says so.
    """
    if not (os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home().joinpath(".ray/auth_token").exists()):
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _token_refused(address: str) -> UsageError:
    return UsageError(
        f"the Ray cluster at {address} asks for its token, and got none or another: export RAY_AUTH_MODE=token, and "
        "the token as RAY_AUTH_TOKEN or in ~/.ray/auth_token (`ray get-auth-token` shows it on the head)"
    )


def _require_listener(address: str) -> None:
    """Raises OSError within seconds where nobody listens; Ray itself would try for minutes."""
    if address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


def plan_for_cluster(pool: PoolSettings, wait_seconds: float, may_grow: bool) -> StagePlan:
    """A plan that fits the connected cluster and is free to start now.

    On a cluster that may grow, a plan that does not fit yet is tried again until `wait_seconds` are over. Then the
    least that the plan needs is reserved for a moment: what cannot be reserved would hang.

    Raises:
        UsageError: the cluster is too small, or something else occupies it.
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


def _require_free(plan: StagePlan, seconds: float) -> None:
    group = placement_group(plan.bundles(), strategy="PACK")
    try:
        if group.wait(seconds):
            return
    finally:
        remove_placement_group(group)
    free = ray.available_resources()
    raise UsageError(
        f"the cluster has not had {_total(plan)} free within {seconds:.0f} s (free now: "
        f"{free.get('CPU', 0):g} CPUs, {free.get('GPU', 0):g} GPUs): stop other jobs, lower pool.min, "
        "or wait longer with --set run.start_seconds=..."
    )


def _total(plan: StagePlan) -> str:
    cpus = sum(bundle["CPU"] for bundle in plan.bundles())
    gpus = sum(bundle.get("GPU", 0.0) for bundle in plan.bundles())
    return f"{cpus:g} CPUs and {gpus:g} GPUs" if gpus else f"{cpus:g} CPUs"
