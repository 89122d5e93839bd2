"""Chooses the runtime: PyTorch on GPUs, ONNX Runtime on CPUs if the package has a graph of the network."""

from __future__ import annotations

import os
from pathlib import Path

from colorize.predict.colorizer import Colorizer
from colorize.predict.settings import ColorizerSettings
from colorize.weights import fitting_graph

# Device files of NVIDIA, AMD and WSL. Without any of them there is no need to import torch, which takes two seconds.
_GPU_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")

# Images per forward pass on CPUs: 2 take 5 % less time than 1 or 8 (measured). PyTorch's results depend on the batch.
ONNX_BATCH, TORCH_CPU_BATCH = 2, 1


def open_colorizer(
    checkpoint: bytes,
    settings: ColorizerSettings,
    *,
    device: str = "cpu",
    batch_size: int = 8,
    threads: int | None = None,
) -> Colorizer:
    """A colorizer for a checkpoint.

    Args:
        checkpoint: content of a `.safetensors` file.
        settings: of the colorizer.
        device: "cpu" or "cuda".
        batch_size: maximum number of images per forward pass; CPUs take fewer.
        threads: CPU threads; None means one per CPU that this process may use.

    Raises:
        UsageError: the network does not support the settings.
    """
    graph = fitting_graph(checkpoint)
    if graph and device == "cpu" and settings.precision != "bfloat16" and settings.temperature is None:
        from colorize.predict.onnx_network import OnnxNetwork

        network = OnnxNetwork(graph.path, checkpoint, stride=graph.stride, threads=threads or available_cpus())
        batch_size = min(batch_size, ONNX_BATCH)
        return Colorizer(network, size=settings.size, batch_size=batch_size, saturation=settings.saturation)
    import torch

    from colorize.models.checkpoint import load_checkpoint
    from colorize.predict.torch_network import torch_colorizer

    if threads:
        torch.set_num_threads(threads)
    if device == "cpu":
        batch_size = TORCH_CPU_BATCH
    model = load_checkpoint(checkpoint).model
    return torch_colorizer(model, batch_size=batch_size, device=device, **settings.model_dump())


def has_gpu() -> bool:
    """Whether torch can use a GPU here."""
    if not any(Path(file).exists() for file in _GPU_FILES):
        return False
    import torch

    return torch.cuda.is_available()


def available_cpus() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
