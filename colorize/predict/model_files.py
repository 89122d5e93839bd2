"""Finds the checkpoint for a model name, file or URI."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from colorize.errors import UsageError, one_line
from colorize.predict.published_weights import PUBLISHED, cached_weights
from colorize.predict.settings import ColorizerSettings
from colorize.settings import nearest
from colorize.storage.root import Storage, read_file
from colorize.weights import checkpoint_metadata, shipped_stride, shipped_weights

_MOST_BYTES = 16 << 30  # maximum size of weights; the largest published ones have 0.9 GB
_MOST_CANVAS = 1024  # like `ColorizerSettings.size`; more would take gigabytes per image
_MESSAGE = 1000  # maximum characters of an error message, which may have names of any length


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A checkpoint that was read and validated."""

    name: str  # as given by the user
    architecture: str  # registry name
    sha256: str  # of the checkpoint file
    data: bytes = field(repr=False)
    stride: int = 1  # of the network: the sides of its inputs are multiples of it
    canvas: int | None = None  # approximate side of the network's fixed input size, if it has one


def find_model(name: str) -> ModelFile:
    """The checkpoint of a shipped model, a file, or a training run's folder (local or remote).

    `NAME=FILE` converts the published weights of the network NAME to a checkpoint; `NAME` alone is enough for weights
    downloaded by `colorize models download NAME`.

    Raises:
        UsageError: unknown model, or not a valid checkpoint of a registered architecture.
    """
    shipped = shipped_weights()
    if name in shipped and not Path(name).exists():
        return _shipped(name, shipped[name].read_bytes())
    from colorize.models.checkpoint import CheckpointError, load_checkpoint

    architecture, equals, weights = name.partition("=")
    try:
        if equals and architecture.isidentifier() and not Path(name).exists():
            return _published(name, architecture, _read_file(weights))
        if name in PUBLISHED and not Path(name).exists():
            return _published(name, name, cached_weights(name).read_bytes())
        data = shipped[name].read_bytes() if name in shipped else _read(name, sorted(shipped))
        loaded = load_checkpoint(data)
    except CheckpointError as error:
        raise UsageError(f"model {name!r}: {one_line(error, _MESSAGE)}{_hint(name)}") from None
    _require_canvas(name, loaded.model.canvas)
    return ModelFile(name, loaded.name, loaded.sha256, data, loaded.model.stride, loaded.model.canvas)


def _require_canvas(name: str, canvas: object) -> None:
    """Raises UsageError for an invalid canvas in a checkpoint's arguments."""
    if canvas is not None and (type(canvas) is not int or not 1 <= canvas <= _MOST_CANVAS):
        raise UsageError(
            f"model {name!r}: it requires canvas={str(canvas)[:40]} pixels; 1 to {_MOST_CANVAS} are supported"
        )


def _shipped(name: str, data: bytes) -> ModelFile:
    """A model of the package. Reads only the header, because importing torch takes seconds."""
    architecture = checkpoint_metadata(data)["model"]
    return ModelFile(name, architecture, hashlib.sha256(data).hexdigest(), data, shipped_stride(architecture))


def require_settings(file: ModelFile, settings: ColorizerSettings) -> None:
    """Raises UsageError for settings that the model does not support."""
    if settings.temperature is not None:
        from colorize.models.checkpoint import load_checkpoint
        from colorize.predict.torch_network import set_temperature

        set_temperature(load_checkpoint(file.data).model, settings.temperature)


def _published(name: str, whose: str, weights: bytes) -> ModelFile:
    """A checkpoint of published weights; `whose` is the name of a network or of published weights."""
    from colorize.models.checkpoint import dump_checkpoint, load_published

    architecture = PUBLISHED[whose].architecture if whose in PUBLISHED else whose
    network = load_published(architecture, weights)
    data = dump_checkpoint(network, name=architecture, args={})
    return ModelFile(name, architecture, hashlib.sha256(data).hexdigest(), data, network.stride, network.canvas)


def _hint(name: str) -> str:
    looks_published = name.endswith((".pth", ".pt", ".bin")) and "=" not in name
    return f"; for published weights, give the name of their network: siggraph17={name}" if looks_published else ""


def _read_file(uri: str) -> bytes:
    from colorize.models.checkpoint import CheckpointError

    try:
        return read_file(uri, _MOST_BYTES)
    except OSError as error:
        raise CheckpointError(f"cannot read the weights {uri} ({one_line(error)})") from None


def _read(name: str, shipped: list[str]) -> bytes:
    from colorize.models import list_models, published_models

    storage = Storage(name)
    try:
        return read_file(name if storage.is_file() else storage.url("best.safetensors"), _MOST_BYTES)
    except UsageError as error:
        if "/" in name or "." in name:
            raise
        if name in list_models():
            weights = f"{name}=FILE, or " if name in published_models() else ""
            raise UsageError(
                f"model {name!r} is an architecture without shipped weights: give {weights}a training run's folder"
            ) from error
        raise UsageError(
            f"unknown model {name!r}{nearest(name, [*shipped, *PUBLISHED])}, and there is no such file"
        ) from error
    except OSError as error:
        raise UsageError(f"model {name!r}: the run has no best.safetensors ({one_line(error)})") from None
