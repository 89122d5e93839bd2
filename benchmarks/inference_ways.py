"""Ways to run the shipped network faster on a CPU: the speed-up of each, and the error that it introduces.

    python -m benchmarks.inference_ways [--rounds 15] [--threads 1]

The ways are interleaved image by image, so that other work on the machine slows them alike; CPU seconds of the process
are measured, and the time of each way is compared with that of the plain one in the same round. Errors are distances in
Lab units from plain float32, on scikit-image's photographs. Ways whose package or compiler is missing are reported so.
"""

from __future__ import annotations

import copy
import importlib
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from skimage import data
from torch import Tensor, nn

from colorize.imaging.color import grey_to_lightness
from colorize.models.checkpoint import load_checkpoint
from colorize.models.fusion import fused
from colorize.predict.model_files import find_model

SIDE = 256
Run = Callable[[Tensor], Tensor]  # L (1, 1, 256, 256) -> ab


@dataclass(frozen=True)
class Way:
    """A way to run the network, or why it is unavailable."""

    run: Run | None
    missing: str = ""


def ways(model: nn.Module) -> dict[str, Callable[[], Run]]:
    """Constructors of the ways by name; the first is the baseline."""
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    folded = fused(last).to(memory_format=torch.channels_last)
    return {
        "float32": lambda: lambda L: call(model, L),
        "float32, channels last": lambda: lambda L: call(last, channels_last(L)),
        "float32, channels last, batch norm folded": lambda: lambda L: call(folded, channels_last(L)),
        "bfloat16, channels last": lambda: lambda L: call(last, channels_last(L), bfloat16=True),
        "bfloat16, channels last, batch norm folded": lambda: lambda L: call(folded, channels_last(L), bfloat16=True),
        "int8, linear layers only (dynamic)": lambda: int8(last),
        "torch.compile, float32": lambda: compiled(last, False),
        "torch.compile, bfloat16": lambda: compiled(last, True),
        "ONNX Runtime, float32": lambda: onnx(model),
    }


def call(model: nn.Module, L_B1HW: Tensor, bfloat16: bool = False) -> Tensor:
    """One forward pass."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        out: Tensor = model(L_B1HW)
        return out


def channels_last(x: Tensor) -> Tensor:
    """The same computation in channels-last layout."""
    return x.contiguous(memory_format=torch.channels_last)


def attempt(build: Callable[[], Run]) -> Way:
    """The way, after its first call; or the first line of the error."""
    try:
        run = build()
        run(torch.full((1, 1, SIDE, SIDE), 50.0))
    except Exception as error:  # any exception of a compiler or exporter is this way's result
        return Way(None, f"{type(error).__name__}: {error}".splitlines()[0][:100])
    return Way(run)


def int8(model: nn.Module) -> Run:
    """Attention weights as 8-bit integers, with dynamically quantized activations."""
    quantization: Any = importlib.import_module("torch.ao.quantization")
    small = quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    return lambda L: call(small, channels_last(L))


def compiled(model: nn.Module, bfloat16: bool) -> Run:
    """TorchInductor, compiled for this shape."""
    fast: Any = torch.compile(model)
    return lambda L: call(fast, channels_last(L), bfloat16)


def onnx(model: nn.Module) -> Run:
    """The exported graph in ONNX Runtime, with as many threads as torch."""
    runtime: Any = importlib.import_module("onnxruntime")
    export: Any = torch.onnx.export  # also writes into open files, which its type hints omit
    file = io.BytesIO()
    export(model, (torch.zeros(1, 1, SIDE, SIDE),), file, dynamo=False, input_names=["L"])
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    return lambda L: torch.from_numpy(session.run(None, {"L": L.contiguous().numpy()})[0])


def images() -> list[Tensor]:
    """L of a few photographs, `(1, 1, 256, 256)` each."""
    photographs = (data.astronaut(), data.coffee(), data.chelsea(), data.rocket())
    greys = [np.asarray(Image.fromarray(p).convert("L").resize((SIDE, SIDE))) for p in photographs]
    return [grey_to_lightness(torch.from_numpy(grey)[None, None].float() / 255) for grey in greys]


def table(found: dict[str, Way], rounds: int) -> Iterator[str]:
    """Markdown with a row per way."""
    able = {name: way.run for name, way in found.items() if way.run is not None}
    inputs = images()
    spent: dict[str, list[float]] = {name: [] for name in able}
    for turn in range(rounds + 1):
        for name, run in able.items():
            started = time.process_time()
            run(inputs[turn % len(inputs)])
            spent[name].append(time.process_time() - started)
    plain, *_ = able
    truth = [able[plain](L) for L in inputs]
    yield "| way | CPU time per image, minimum / median | relative to plain, median | mean / largest error, Lab units |"
    yield "| --- | --- | --- | --- |"
    for name, way in found.items():
        if way.run is None:
            yield f"| {name} | unavailable: {way.missing} | | |"
            continue
        times = np.array(spent[name][1:])
        ratio = np.median(times / np.array(spent[plain][1:]))
        error = torch.stack(
            [torch.linalg.vector_norm(way.run(L) - t, dim=1) for L, t in zip(inputs, truth, strict=True)]
        )
        milliseconds = f"{1000 * times.min():.0f} / {1000 * np.median(times):.0f} ms"
        yield f"| {name} | {milliseconds} | {ratio:.2f} | {error.mean():.3f} / {error.max():.2f} |"


def main(
    rounds: Annotated[int, typer.Option(help="repetitions per image and way")] = 15,
    threads: Annotated[int, typer.Option(help="threads of torch and ONNX Runtime")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="only ways whose names contain this, and the first")] = None,
) -> None:
    """Prints the table."""
    torch.set_num_threads(threads)
    model = load_checkpoint(find_model("default").data).model
    chosen = {n: build for n, build in ways(model).items() if n == "float32" or not only or any(o in n for o in only)}
    found = {name: attempt(build) for name, build in chosen.items()}
    for line in table(found, rounds):
        print(line, flush=True)


if __name__ == "__main__":
    typer.run(main)
