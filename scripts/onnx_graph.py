"""Exports the shipped model's graph for ONNX Runtime: `python -m scripts.onnx_graph`.

Run it after a change of the architecture's code or of the shipped model's arguments. The graph contains no weights:
they are loaded from a checkpoint by name. It maps grey (B, 1, H, W), uint8, with sides that are multiples of the
stride, and two matrices for each level of the decoder (`upsampling`) to ab (B, 2, h, w) and uncertainty (B, h, w).
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch

from colorize.models.checkpoint import load_checkpoint
from colorize.models.unet import Unet
from colorize.predict.onnx_network import INPUT, OUTPUTS, matrix_sizes, upsampling
from colorize.weights import shipped_weights
from scripts.onnx_forms import Graph

OPSET = 18
PREFIX = "network."


def graph(checkpoint: bytes) -> bytes:
    """The ONNX file of a checkpoint's network, without weights."""
    network = load_checkpoint(checkpoint).model
    assert isinstance(network, Unet)
    model = Graph(network).eval().requires_grad_(False)
    height, width = 2 * network.stride, 3 * network.stride
    sizes = matrix_sizes(height, width, stride=network.stride, levels=len(network.decoder))
    inputs = {INPUT: torch.zeros(2, 1, height, width, dtype=torch.uint8)}
    inputs |= {name: torch.from_numpy(upsampling(size)) for name, size in sizes.items()}
    axes = {name: {0: f"{name} out", 1: f"{name} in"} for name in sizes}
    axes |= {image: {0: "batch", 2: "rows", 3: "columns"} for image in (INPUT, OUTPUTS[0])}
    axes[OUTPUTS[1]] = {0: "batch", 1: "rows", 2: "columns"}
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # it recommends the newer exporter, which renames the weights
        export: Any = torch.onnx.export
        export(
            model,
            tuple(inputs.values()),
            file,
            dynamo=False,
            opset_version=OPSET,
            do_constant_folding=False,  # otherwise some weights are stored transposed, under other names
            input_names=list(inputs),
            output_names=list(OUTPUTS),
            dynamic_axes=axes,
        )
    return without_weights(with_merged_padding(onnx.load_from_string(file.getvalue())))


def with_merged_padding(model: onnx.ModelProto) -> onnx.ModelProto:
    """Merges `Pad` nodes into convolutions: TensorFlow's "same" padding is uneven, which PyTorch exports separately."""
    nodes = model.graph.node
    padded = {node.output[0]: node for node in nodes if node.op_type == "Pad"}
    for node in nodes:
        if node.op_type == "Conv" and node.input[0] in padded:
            node.input[0] = padded[node.input[0]].input[0]
            kept = [attribute for attribute in node.attribute if attribute.name != "pads"]
            node.ClearField("attribute")
            node.attribute.extend([*kept, onnx.helper.make_attribute("auto_pad", "SAME_UPPER")])
    for node in padded.values():
        nodes.remove(node)
    return model


def without_weights(model: onnx.ModelProto) -> bytes:
    """The file with the network's tensors as external initializers, named as in the checkpoint."""
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
