"""The models shipped with the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

_HEADER_BYTES = 8  # a safetensors file starts with the length of its JSON header
_TRAINING_ONLY = {"drop"}  # arguments that change nothing in eval mode
_STRIDES = {"unet": 32}  # of the architectures that are shipped; to ask their classes torch would have to be imported


class Graph(NamedTuple):
    """An ONNX file without weights, and what the sides of its inputs are multiples of."""

    path: Path
    stride: int


def shipped_weights() -> dict[str, Path]:
    """Paths of the shipped models by name."""
    return {file.stem: file for file in sorted(Path(__file__).parent.glob("*.safetensors"))}


def shipped_stride(architecture: str) -> int:
    """What the sides of an input of a shipped architecture are multiples of."""
    return _STRIDES[architecture]


def fitting_graph(checkpoint: bytes) -> Graph | None:
    """The shipped graph that computes what a checkpoint's network does: that of a shipped model built alike."""
    try:
        wanted = _built_as(checkpoint_metadata(checkpoint))
    except (ValueError, AttributeError, RecursionError):  # what is wrong with it, who loads it says
        return None
    for path in shipped_weights().values():
        graph = path.with_suffix(".onnx")
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
            head += file.read(int.from_bytes(head, "little"))
        if graph.exists() and _built_as(checkpoint_metadata(head)) == wanted:
            return Graph(graph, _STRIDES[wanted[0]])
    return None


def checkpoint_metadata(data: bytes) -> dict[str, str]:
    """What the header of a safetensors file says beside its tensors. Raises ValueError for one that is not JSON."""
    end = _HEADER_BYTES + int.from_bytes(data[:_HEADER_BYTES], "little")
    metadata: dict[str, str] = json.loads(data[_HEADER_BYTES:end]).get("__metadata__", {})
    return metadata


def _built_as(metadata: dict[str, str]) -> tuple[str, dict[str, Any]]:
    args = json.loads(metadata.get("args", "{}"))
    return metadata.get("model", ""), {name: value for name, value in args.items() if name not in _TRAINING_ONLY}
