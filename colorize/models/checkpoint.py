"""Checkpoints: a `.safetensors` file with weights, registry name and arguments, which rebuilds its own network."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from colorize.errors import UsageError
from colorize.models import ColorModel, PublishedModel, create_model, published_models
from colorize.models.published import fold_spectral_norm, stored_shapes
from colorize.settings import nearest
from colorize.weights import checkpoint_metadata
from colorize.weights.mistaken import mistaken_for_weights
from colorize.weights.plain import NotPlainError, load_plain

_PTH_STARTS = b"PK", b"\x80"  # a zip archive, or a pickle as torch wrote until 2020
_HEADER_BYTES = 8  # a safetensors file starts with the length of its JSON header


class CheckpointError(ValueError):
    """A checkpoint cannot be loaded. The message is one line."""


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A network rebuilt from its checkpoint.

    Attributes:
        model: in eval mode, float32, on the CPU.
        name: its registry name.
        args: its constructor's arguments.
        sha256: of the file; identifies the model in manifests.
    """

    model: ColorModel
    name: str
    args: dict[str, Any]
    sha256: str


def dump_checkpoint(model: nn.Module, *, name: str, args: Mapping[str, Any], dtype: torch.dtype | None = None) -> bytes:
    """The bytes of a network's checkpoint.

    Args:
        model: its parameters and buffers are saved.
        name: its registry name.
        args: its constructor's arguments; must be JSON.
        dtype: of the floating-point tensors in the file, such as `torch.float16`; None keeps theirs.
    """
    state = {key: _stored(value, dtype) for key, value in model.state_dict().items()}
    return _ordered(save(state, metadata={"model": name, "args": json.dumps(dict(args), sort_keys=True)}))


def load_checkpoint(source: bytes | str | Path) -> LoadedCheckpoint:
    """Rebuild a network from a checkpoint, strictly: every tensor must be there and have its shape.

    Args:
        source: path or bytes.

    Raises:
        CheckpointError: missing file, not a safetensors file, unknown model, or weights that do not fit it.
    """
    data, where = (source, "the checkpoint") if isinstance(source, bytes) else (_read(Path(source)), str(source))
    try:
        state = load(data)
        metadata = checkpoint_metadata(data)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{where} is not a safetensors file: {error}") from None
    name, args = _identity(metadata, where)
    _require_fit(_shapes(name, args, len(state), where), state, where)
    with _Unfilled():
        model = create_model(name, **args)
    model.load_state_dict(state, strict=True)  # copies, and converts half precision to the model's float32
    return LoadedCheckpoint(model.eval(), name, args, hashlib.sha256(data).hexdigest())


def load_published(name: str, weights: str | Path | bytes | Mapping[str, Tensor]) -> PublishedModel:
    """Build a published network and load its authors' weights, strictly.

    Args:
        name: one of `colorize.models.published_models()`.
        weights: path, bytes or state dict. `.pth` files are loaded with `weights_only`; `.safetensors` works too.
            The state dict may be nested under `params`. Old spectral norms (`weight_orig`, `weight_u`, `weight_v`)
            are folded.

    Returns:
        The network in eval mode, float32, on the CPU.

    Raises:
        UsageError: `name` is not a published network.
        CheckpointError: missing or damaged file, or weights that do not fit.
    """
    if name not in published_models():
        raise UsageError(f"no published weights fit a model {name!r}{nearest(name, published_models())}")
    where = str(weights) if isinstance(weights, str | Path) else f"the {name} weights"
    state = _published_state(weights, where)
    with _Unfilled():
        model = create_model(name)
    assert isinstance(model, PublishedModel)
    _require_fit(stored_shapes(model.published_shapes(), state), state, where)
    model.load_state_dict(model.from_published(fold_spectral_norm(state)), strict=True)
    return model.eval()


class _Unfilled(TorchFunctionMode):
    """Skips weight initialization: drawing 228 million random numbers takes seconds."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _ordered(data: bytes) -> bytes:
    """The same safetensors file with sorted metadata, since the library writes it in random order."""
    end = _HEADER_BYTES + int.from_bytes(data[:_HEADER_BYTES], "little")
    header = json.loads(data[_HEADER_BYTES:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _HEADER_BYTES)  # tensors start at multiples of eight bytes
    return len(text).to_bytes(_HEADER_BYTES, "little") + text + data[end:]


def _stored(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    value = value.detach().cpu()
    return (value.to(dtype) if dtype and value.is_floating_point() else value).contiguous()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.strerror or error}") from None


def _identity(metadata: Mapping[str, str], where: str) -> tuple[str, dict[str, Any]]:
    if "model" not in metadata:
        raise CheckpointError(f"{where} does not say which model it holds: its metadata has no 'model'")
    try:
        args = json.loads(metadata.get("args", "{}"))
    except (ValueError, RecursionError):
        args = None
    if not isinstance(args, dict):
        raise CheckpointError(f"{where}: the metadata's 'args' is no JSON object: {metadata['args'][:80]!r}")
    return metadata["model"], args


def _shapes(name: str, args: Mapping[str, Any], tensors: int, where: str) -> dict[str, torch.Size]:
    """The shapes of a model's tensors, built on the meta device, since a file may declare any width and depth.

    Raises:
        CheckpointError: unknown model, invalid arguments, or far more tensors than the file has.
    """
    left = 2 * tensors + 64  # some are registered more than once

    def count(module: nn.Module, key: str, value: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise CheckpointError(f"its arguments describe a network of more than its {tensors} tensors")

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            return {key: value.shape for key, value in create_model(name, **args).state_dict().items()}
    except Exception as error:  # untrusted arguments can raise any exception
        raise CheckpointError(f"{where}: {_line(error)}") from None
    finally:
        hook.remove()


def _require_fit(expected: Mapping[str, torch.Size], state: Mapping[str, Tensor], where: str) -> None:
    faults = {
        "lacks": sorted(expected.keys() - state.keys()),
        "has unknown": sorted(state.keys() - expected.keys()),
        "has a wrong shape of": [
            f"{key} {tuple(state[key].shape)} for {tuple(shape)}"
            for key, shape in expected.items()
            if key in state and state[key].shape != shape
        ],
    }
    for fault, keys in faults.items():
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise CheckpointError(f"{where} does not fit its model: it {fault} {', '.join(keys[:3])}{more}")


def _published_state(weights: str | Path | bytes | Mapping[str, Tensor], where: str) -> Mapping[str, Tensor]:
    if isinstance(weights, str | Path):
        weights = _read(Path(weights))
    state: Any = _unpacked(weights, where) if isinstance(weights, bytes) else weights
    if isinstance(state, Mapping) and isinstance(state.get("params"), Mapping):
        state = state["params"]
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise CheckpointError(f"{where} is not a state dict: it must map names to tensors, directly or under 'params'")
    return state


def _unpacked(data: bytes, where: str) -> Any:
    """Tells safetensors from torch files by their first bytes."""
    if wrong := mistaken_for_weights(data):
        raise CheckpointError(f"{where} is {wrong}: fetch the weights again")
    try:
        if data[_HEADER_BYTES : _HEADER_BYTES + 1] == b"{":
            return load(data)
        if not data.startswith(_PTH_STARTS):
            raise ValueError(f"it starts with {data[:4].hex(' ')}" if data else "it is empty")
        return load_plain(data)
    except NotPlainError as error:
        raise CheckpointError(f"{where}: the file {error}") from None
    except pickle.UnpicklingError:
        raise CheckpointError(f"{where} holds more than weights, or is damaged: it is not loaded") from None
    except (SafetensorError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{where} is neither a .pth nor a .safetensors file: {_line(error)}") from None


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
