"""One file, one network: weights, registry name and arguments in a `.safetensors` file that rebuilds its model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from colorize.config import UsageError
from colorize.models import ColorModel, create_model

_HEADER_BYTES = 8  # a safetensors file starts with the length of its JSON header


class CheckpointError(ValueError):
    """A checkpoint that cannot be loaded: the message says in one line what is wrong with it."""


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A network rebuilt from its file.

    Attributes:
        model: in eval mode, float32, on the CPU.
        name: its registry name.
        args: its constructor's arguments.
        sha256: hash of the file's content, which identifies the model in manifests.
    """

    model: ColorModel
    name: str
    args: dict[str, Any]
    sha256: str


def save_checkpoint(
    target: str | Path,
    model: nn.Module,
    *,
    name: str,
    args: Mapping[str, Any],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a network's state with what rebuilds it; the file appears whole or not at all.

    Args:
        target: the `.safetensors` file to write.
        model: its parameters and buffers are saved.
        name: its registry name.
        args: its constructor's arguments; must be JSON.
        dtype: of the floating-point tensors in the file, such as `torch.float16` to halve it; None keeps theirs.
    """
    target = Path(target)
    data = dump_checkpoint(model, name=name, args=args, dtype=dtype)
    partial = target.with_name(target.name + ".partial")
    partial.write_bytes(data)
    partial.replace(target)


def dump_checkpoint(model: nn.Module, *, name: str, args: Mapping[str, Any], dtype: torch.dtype | None = None) -> bytes:
    """What `save_checkpoint` writes, for those who store it elsewhere."""
    state = {key: _stored(value, dtype) for key, value in model.state_dict().items()}
    return save(state, metadata={"model": name, "args": json.dumps(dict(args), sort_keys=True)})


def load_checkpoint(source: bytes | str | Path) -> LoadedCheckpoint:
    """Rebuild a network from a checkpoint, strictly: every tensor in its place and of its shape.

    Args:
        source: a file, or its content.

    Raises:
        CheckpointError: a missing file, no safetensors file, an unknown model, or weights that do not fit it.
    """
    data, where = (source, "the checkpoint") if isinstance(source, bytes) else (_read(Path(source)), str(source))
    try:
        state = load(data)
        metadata = _metadata(data)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{where} is not a safetensors file: {error}") from None
    name, args = _identity(metadata, where)
    try:
        model = create_model(name, **args)
    except UsageError as error:
        raise CheckpointError(f"{where}: {error}") from None
    _fill(model, state, where)
    return LoadedCheckpoint(model.eval(), name, args, hashlib.sha256(data).hexdigest())


def shipped_weights() -> dict[str, Path]:
    """Names of the models that come with the package, and their files."""
    folder = Path(str(resources.files("colorize"))) / "weights"
    return {file.stem: file for file in sorted(folder.glob("*.safetensors"))}


def _stored(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    value = value.detach().cpu()
    return (value.to(dtype) if dtype and value.is_floating_point() else value).contiguous()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.strerror or error}") from None


def _metadata(data: bytes) -> dict[str, str]:
    length = int.from_bytes(data[:_HEADER_BYTES], "little")
    header = json.loads(data[_HEADER_BYTES : _HEADER_BYTES + length])
    metadata: dict[str, str] = header.get("__metadata__", {})
    return metadata


def _identity(metadata: Mapping[str, str], where: str) -> tuple[str, dict[str, Any]]:
    if "model" not in metadata:
        raise CheckpointError(f"{where} does not say which model it holds: its metadata has no 'model'")
    try:
        args = json.loads(metadata.get("args", "{}"))
    except ValueError:
        args = None
    if not isinstance(args, dict):
        raise CheckpointError(f"{where}: the metadata's 'args' is no JSON object: {metadata['args']!r}")
    return metadata["model"], args


def _fill(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    expected = model.state_dict()
    faults = {
        "lacks": sorted(expected.keys() - state.keys()),
        "has unknown": sorted(state.keys() - expected.keys()),
        "has another shape of": [
            f"{key} {tuple(state[key].shape)} for {tuple(value.shape)}"
            for key, value in expected.items()
            if key in state and state[key].shape != value.shape
        ],
    }
    for fault, keys in faults.items():
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise CheckpointError(f"{where} does not fit its model: it {fault} {', '.join(keys[:3])}{more}")
    model.load_state_dict(state, strict=True)  # copies, and converts half precision to the model's float32
