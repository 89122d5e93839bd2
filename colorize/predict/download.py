"""Fetching published weights: said what and from where first, checked before they are used, from the cache if there.

The hub's client does the work, so its environment variables count: `HF_ENDPOINT` (a mirror), `HF_HOME` (the cache),
`HF_HUB_OFFLINE`, `HF_TOKEN`, and for both places `HTTPS_PROXY`. It takes up a broken connection where it broke.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import httpx2
from huggingface_hub import get_hf_file_metadata, get_session, hf_hub_download
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.file_download import http_get

from colorize.errors import UsageError, one_line
from colorize.models.checkpoint import CheckpointError, load_published
from colorize.predict.published_weights import (
    PUBLISHED,
    PublishedWeights,
    bucket_cache,
    pin,
    require_right,
)
from colorize.settings import nearest

_ANSWER_SECONDS = 10.0


def download(name: str) -> Iterator[str]:
    """Fetches weights by their name; yields lines for people: what will be fetched, before it is, and where it lies.

    Raises:
        UsageError: no such weights, no way to them, or something else lies there.
    """
    if name not in PUBLISHED:
        raise UsageError(f"no published weights are called {name!r}{nearest(name, list(PUBLISHED))}")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries need no line
    weights = PUBLISHED[name]
    path = weights.cached()
    if path is not None and _is_right(weights, path):
        yield f"{name} is here already: {path}"
        return
    with _plain_faults(weights):
        size = _size(weights)
    yield f"{name}: {_megabytes(size)} from {weights.source} ({weights.license})"
    with _plain_faults(weights):
        path = _from_hub(weights, again=path is not None) if weights.repository else _from_bucket(weights, size)
    digest = require_right(weights, path, weights.source)
    _require_weights(weights, path)
    pin(weights, digest)
    yield f"{name} is in {path}; use it as --model {name}"


def _is_right(weights: PublishedWeights, path: Path) -> bool:
    try:
        return bool(require_right(weights, path))
    except UsageError:
        return False


def _size(weights: PublishedWeights) -> int | None:
    """Bytes, as the server says."""
    if weights.repository:
        return get_hf_file_metadata(weights.source, timeout=_ANSWER_SECONDS).size
    answer = get_session().head(weights.source, timeout=_ANSWER_SECONDS, headers={"Accept-Encoding": "identity"})
    answer.raise_for_status()
    length = answer.headers.get("Content-Length")
    return int(length) if length else None


def _from_hub(weights: PublishedWeights, again: bool) -> Path:
    return Path(hf_hub_download(weights.repository, weights.file, force_download=again))


def _from_bucket(weights: PublishedWeights, size: int | None) -> Path:
    """Into the cache, where it appears whole and checked or not at all."""
    cache = bucket_cache()
    draft = cache.draft(weights.file)
    try:
        with draft.open() as file:
            http_get(weights.source, cast(BinaryIO, file), expected_size=size, displayed_filename=weights.file)
        require_right(weights, draft.path, weights.source)
        cache.move(draft.name, weights.file)
    finally:
        draft.discard()
    return Path(cache.path, weights.file)


def _require_weights(weights: PublishedWeights, path: Path) -> None:
    try:
        load_published(weights.architecture, path)
    except CheckpointError as error:
        raise UsageError(f"{weights.name}, from {weights.source}: {error}") from None


@contextmanager
def _plain_faults(weights: PublishedWeights) -> Iterator[None]:
    """Faults of the network and of servers as one line that says what to do."""
    mirror = "HF_ENDPOINT" if weights.repository else "COLORIZERS_ENDPOINT"
    by_hand = f"copy the file here and write --model {weights.architecture}=FILE"
    try:
        yield
    except OfflineModeIsEnabled:
        raise UsageError(
            f"{weights.name} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it: unset that, or {by_hand}"
        ) from None
    except (OSError, httpx2.HTTPError) as error:
        raise UsageError(
            f"cannot fetch {weights.source} ({one_line(error, 160)}): check the network (HTTPS_PROXY), name a mirror "
            f"({mirror}), or {by_hand}"
        ) from None


def _megabytes(size: int | None) -> str:
    return "a file of unknown size" if size is None else f"{size / 1e6:,.0f} MB"
