"""Writes the graph that ONNX Runtime runs the shipped model by: `python -m scripts.onnx_graph`.

To be run after a change of the architecture's code or of the shipped model's arguments. The graph holds no weights:
they come from a checkpoint, under the names that they have there. It maps grey (B, 1, H, W), uint8, sides multiples
of the network's stride, to ab (B, 2, h, w) and doubt (B, h, w), all that a colorizer asks of a network.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from colorize.imaging.color import grey_to_lightness
from colorize.models.checkpoint import load_checkpoint
from colorize.predict.confidence import color_and_doubt
from colorize.predict.onnx_network import INPUT, OUTPUTS
from colorize.weights import shipped_weights

OPSET = 18
PREFIX = "network."


class Graph(nn.Module):
    """Grey in, color and doubt out: what `TorchNetwork` does for a batch."""

    lightness: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("lightness", grey_to_lightness(torch.arange(256) / 255))

    def forward(self, grey_B1HW: Tensor) -> tuple[Tensor, Tensor]:
        return color_and_doubt(self.network, self.lightness[grey_B1HW.int()])


def graph(checkpoint: bytes) -> bytes:
    """The ONNX file of a checkpoint's network, its weights left out."""
    network = load_checkpoint(checkpoint).model
    model = Graph(network).eval().requires_grad_(False)
    example = torch.zeros(2, 1, 2 * network.stride, 3 * network.stride, dtype=torch.uint8)
    axes = {0: "batch", 2: "rows", 3: "columns"}
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it advises the newer exporter, which renames the weights
        export: Any = torch.onnx.export
        export(
            model,
            (example,),
            file,
            dynamo=False,
            opset_version=OPSET,
            do_constant_folding=False,  # or some weights are stored transposed, under other names
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_axes={INPUT: axes, OUTPUTS[0]: axes, OUTPUTS[1]: {0: "batch", 1: "rows", 2: "columns"}},
        )
    return without_weights(onnx.load_from_string(file.getvalue()))


def without_weights(model: onnx.ModelProto) -> bytes:
    """The file with each of the network's tensors named as in the checkpoint, to be given from outside."""
    for tensor in model.graph.initializer:
        if tensor.name.startswith(PREFIX):
            tensor.name = tensor.name.removeprefix(PREFIX)
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="checkpoint")
    for node in model.graph.node:
        node.input[:] = [name.removeprefix(PREFIX) for name in node.input]
        node.ClearField("doc_string")
    data: bytes = model.SerializeToString()
    return data


def main() -> None:
    """Writes a graph beside each shipped checkpoint."""
    for name, path in shipped_weights().items():
        target = path.with_suffix(".onnx")
        target.write_bytes(graph(path.read_bytes()))
        print(f"{target.relative_to(Path.cwd())}: {name}, {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
