"""Cost of the shipped model and each registered network: parameters, arithmetic, and images per second.

    python -m benchmarks.model_cost [--seconds 5] [--threads 2] [--device cpu] [NAME ...]

Prints a Markdown table. Networks have random weights, since cost does not depend on them; a NAME may also be one of
weights. The input is an image of 256 x 256 pixels, or of the network's fixed size. GFLOP counts a multiplication and
an addition as two, as torch's counter does (convolutions, matrix products, attention). Speed is that of the network
alone, with batch size 1, float32 and channels last: by CPU time, which other work on the machine affects less, and by
wall time.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from colorize.models import ColorModel, create_model, list_models
from colorize.models.checkpoint import load_checkpoint
from colorize.predict.model_files import find_model

SIZE = 256


@dataclass(frozen=True)
class Cost:
    """The cost of one network."""

    parameters: int
    side: int  # of the input
    gflop: float
    cpu_seconds: float  # of all threads, per image
    wall_seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", default=["default", *list_models()])
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of each measurement")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| model | parameters | input | GFLOP | CPU s per image | images/s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in options.names:
        print(row(name, measure(_network(name), options.seconds, options.device)), flush=True)
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"\n{options.device}, {options.threads} threads of {os.cpu_count()} CPUs, torch {torch.__version__}, {load}")


def _network(name: str) -> ColorModel:
    """A registered network, or weights as for `colorize evaluate`."""
    return create_model(name) if name in list_models() else load_checkpoint(find_model(name).data).model


def row(name: str, cost: Cost) -> str:
    """A table row."""
    parameters = f"{cost.parameters / 1e6:.2f} M"
    speed = f"{cost.cpu_seconds:.3g} | {1 / cost.wall_seconds:.3g}"
    return f"| `{name}` | {parameters} | {cost.side} x {cost.side} | {cost.gflop:.3g} | {speed} |"


def measure(model: ColorModel, seconds: float, device: str = "cpu") -> Cost:
    """Runs `model` for about so many seconds."""
    side = model.canvas or SIZE
    parameters = sum(p.numel() for p in model.parameters())
    model = model.requires_grad_(False).eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    L_B1HW = torch.full((1, 1, side, side), 50.0, device=device)
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            model(L_B1HW)
        cpu, wall = _timed(model, L_B1HW, seconds)
    return Cost(parameters, side, counter.get_total_flops() / 1e9, cpu, wall)


def _timed(model: ColorModel, L_B1HW: Tensor, seconds: float) -> tuple[float, float]:
    """CPU and wall seconds per image."""
    started, cpu, count = time.perf_counter(), time.process_time(), 0
    while not count or time.perf_counter() - started < seconds:
        model(L_B1HW)
        count += 1
    if L_B1HW.is_cuda:
        torch.cuda.synchronize()
    return (time.process_time() - cpu) / count, (time.perf_counter() - started) / count


if __name__ == "__main__":
    main()
