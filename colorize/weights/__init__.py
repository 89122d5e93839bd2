"""The models shipped with the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

_HEADER_BYTES = 8  # a safetensors file starts with the length of its JSON header
_TRAINING_ONLY = {"drop"}  # arguments that change nothing in eval mode
_STRIDES = {"unet": 32}  # of the shipped architectures; repeated here to avoid importing torch


class Graph(NamedTuple):
    """An ONNX file without weights, and its stride: the sides of its inputs are multiples of it."""

    path: Path
    stride: int


def shipped_weights() -> dict[str, Path]:
    """Paths of the shipped models by name."""
    return {file.stem: file for file in sorted(Path(__file__).parent.glob("*.safetensors"))}


def shipped_stride(architecture: str) -> int:
    """The stride of a shipped architecture: the sides of its inputs are multiples of it."""
    return _STRIDES[architecture]


def fitting_graph(checkpoint: bytes) -> Graph | None:
    """The shipped ONNX graph for a checkpoint: that of a shipped model with the same architecture and arguments."""
    try:
        wanted = _architecture(checkpoint_metadata(checkpoint))
    except (ValueError, AttributeError, RecursionError):  # the loader reports what is wrong
        return None
    for path in shipped_weights().values():
        graph = path.with_suffix(".onnx")
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
            head += file.read(int.from_bytes(head, "little"))
        if graph.exists() and _architecture(checkpoint_metadata(head)) == wanted:
            return Graph(graph, _STRIDES[wanted[0]])
    return None


def checkpoint_metadata(data: bytes) -> dict[str, str]:
    """The metadata in a safetensors header. Raises ValueError if the header is not JSON."""
    end = _HEADER_BYTES + int.from_bytes(data[:_HEADER_BYTES], "little")
    metadata: dict[str, str] = json.loads(data[_HEADER_BYTES:end]).get("__metadata__", {})
    return metadata


def _architecture(metadata: dict[str, str]) -> tuple[str, dict[str, Any]]:
    args = json.loads(metadata.get("args", "{}"))
    return metadata.get("model", ""), {name: value for name, value in args.items() if name not in _TRAINING_ONLY}
