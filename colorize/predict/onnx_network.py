"""The shipped architecture in ONNX Runtime, for CPUs: faster than PyTorch, and loads in a fraction of the time.

The package includes the graph without weights, made by `scripts/onnx_graph.py`. The weights come from the checkpoint,
so any checkpoint of the architecture can be used.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from safetensors.numpy import load

from colorize.predict.network import Float, Prediction

INPUT, OUTPUTS = "grey", ("ab", "uncertainty")


class OnnxNetwork:
    """A graph from grey (B, 1, H, W), uint8, and matrices for its size to ab (B, 2, h, w), uncertainty (B, h, w)."""

    canvas: int | None = None
    takes_hints = False
    device = "cpu"

    def __init__(self, graph: Path, checkpoint: bytes, *, stride: int, threads: int) -> None:
        """Loads the graph with the checkpoint's weights, by their names."""
        self.stride, self.name = stride, graph.stem
        tensors = load(checkpoint).items()
        weights = {name: value.astype(np.float32) for name, value in tensors if value.dtype.kind == "f"}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other processes need the cores
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
        options.add_external_initializers(list(weights), values)
        self.session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self.levels = len(self.session.get_inputs()) // 2  # of the decoder, two matrices each

    def __str__(self) -> str:
        return self.name

    def start(
        self, grey_B1HW: NDArray[np.uint8], hints_BCHW: tuple[Float, ...], confidence: bool
    ) -> Callable[[], Prediction]:
        """See `Network`. Synchronous: the result is ready on return."""
        sizes = matrix_sizes(*grey_B1HW.shape[2:], stride=self.stride, levels=self.levels)
        matrices = {name: upsampling(size) for name, size in sizes.items()}
        ab, uncertainty = self.session.run(OUTPUTS, {INPUT: grey_B1HW} | matrices)
        return lambda: Prediction(ab, uncertainty if confidence else None)

    def move(self, device: str) -> None:
        """Does nothing: ONNX Runtime is only used on CPUs."""


def matrix_sizes(height: int, width: int, *, stride: int, levels: int) -> dict[str, int]:
    """The graph's matrices, two per decoder level, and the size that each is `upsampling` of."""
    sides = {"rows": height, "columns": width}
    return {f"{side}{level}": size // stride << level for level in range(levels) for side, size in sides.items()}


@lru_cache(maxsize=32)
def upsampling(size: int) -> Float:
    """A matrix (2 * size, 3 * size) that doubles a line of pixels bilinearly and sums three shifted taps.

    Its columns are pairs of pixel and tap, of a convolution with three taps computed before the upsampling. Tap t is
    shifted by t - 1 pixels of the doubled line, with zeros past its ends.
    """
    source = np.arange(-1, 2 * size + 1) / 2 - 0.25
    weights = 1 - np.abs(source.clip(0, size - 1)[:, None] - np.arange(size))
    doubled = weights.clip(min=0)
    doubled[[0, -1]] = 0
    taps = [doubled[tap : tap + 2 * size] for tap in range(3)]
    return np.stack(taps, axis=2).reshape(2 * size, 3 * size).astype(np.float32)
