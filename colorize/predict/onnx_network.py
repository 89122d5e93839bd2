"""The shipped architecture in ONNX Runtime, for CPUs: faster than PyTorch, and loads in a fraction of the time.

The package includes the graph without weights, made by `scripts/onnx_graph.py`. The weights come from the checkpoint,
so any checkpoint of the architecture can be used.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from safetensors.numpy import load

from colorize.predict.network import Float, Prediction

INPUT, OUTPUTS = "grey", ("ab", "doubt")


class OnnxNetwork:
    """A graph that maps grey (B, 1, H, W), uint8, to ab (B, 2, h, w) and doubt (B, h, w), both float32."""

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

    def __str__(self) -> str:
        return self.name

    def start(
        self, grey_B1HW: NDArray[np.uint8], hints_BCHW: tuple[Float, ...], confidence: bool
    ) -> Callable[[], Prediction]:
        """See `Network`. Synchronous: the result is ready on return."""
        ab, doubt = self.session.run(OUTPUTS, {INPUT: grey_B1HW})
        return lambda: Prediction(ab, doubt if confidence else None)

    def move(self, device: str) -> None:
        """Does nothing: ONNX Runtime is only used on CPUs."""
