"""Downloads published weights to the cache and verifies them.

Uses the hub's client, which resumes broken connections and reads `HF_ENDPOINT` (a mirror), `HF_HOME` (the cache),
`HF_HUB_OFFLINE`, `HF_TOKEN` and `HTTPS_PROXY`.
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
    verify_weights,
)
from colorize.settings import nearest

_ANSWER_SECONDS = 10.0


def download(name: str) -> Iterator[str]:
    """Downloads weights by name; yields messages: size, source and license before the download, and the path after it.

    Raises:
        UsageError: unknown weights, failed download, or wrong file.
    """
    if name not in PUBLISHED:
        raise UsageError(f"there are no published weights {name!r}{nearest(name, list(PUBLISHED))}")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # do not log retries
    weights = PUBLISHED[name]
    path = weights.cached()
    if path is not None and _is_valid(weights, path):
        yield f"{name} is already in the cache: {path}"
        return
    with _plain_faults(weights):
        size = _size(weights)
    yield f"{name}: {_megabytes(size)} from {weights.source} ({weights.license})"
    with _plain_faults(weights):
        path = _from_hub(weights, again=path is not None) if weights.repository else _from_bucket(weights, size)
    digest = verify_weights(weights, path, weights.source)
    _require_weights(weights, path)
    pin(weights, digest)
    yield f"{name} is in {path}; use it as --model {name}"


def _is_valid(weights: PublishedWeights, path: Path) -> bool:
    try:
        return bool(verify_weights(weights, path))
    except UsageError:
        return False


def _size(weights: PublishedWeights) -> int | None:
    """Size in bytes, as reported by the server."""
    if weights.repository:
        return get_hf_file_metadata(weights.source, timeout=_ANSWER_SECONDS).size
    answer = get_session().head(weights.source, timeout=_ANSWER_SECONDS, headers={"Accept-Encoding": "identity"})
    answer.raise_for_status()
    length = answer.headers.get("Content-Length")
    return int(length) if length else None


def _from_hub(weights: PublishedWeights, again: bool) -> Path:
    return Path(hf_hub_download(weights.repository, weights.file, force_download=again))


def _from_bucket(weights: PublishedWeights, size: int | None) -> Path:
    """Downloads to a temporary file, verifies it and moves it to the cache."""
    cache = bucket_cache()
    draft = cache.draft(weights.file)
    try:
        with draft.open() as file:
            http_get(weights.source, cast(BinaryIO, file), expected_size=size, displayed_filename=weights.file)
        verify_weights(weights, draft.path, weights.source)
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
    """Converts network and server errors to UsageError with advice."""
    mirror = "HF_ENDPOINT" if weights.repository else "COLORIZERS_ENDPOINT"
    by_hand = f"copy the file to this machine and use --model {weights.architecture}=FILE"
    try:
        yield
    except OfflineModeIsEnabled:
        raise UsageError(
            f"{weights.name} is not in the cache, and HF_HUB_OFFLINE is set: unset it, or {by_hand}"
        ) from None
    except (OSError, httpx2.HTTPError) as error:
        raise UsageError(
            f"cannot download {weights.source} ({one_line(error, 160)}): check the network (HTTPS_PROXY), set a mirror "
            f"({mirror}), or {by_hand}"
        ) from None


def _megabytes(size: int | None) -> str:
    return "a file of unknown size" if size is None else f"{size / 1e6:,.0f} MB"
