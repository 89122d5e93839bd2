"""All GPU measurements of this project in a few minutes, on a machine with torch: no Ray, no network access.

    python -m benchmarks.gpu                  # needs torch, numpy, Pillow, pydantic, PyYAML and safetensors
    python -m benchmarks.gpu --seconds 1      # per measurement; takes a minute
    python -m benchmarks.gpu --quick          # a smoke test, also on a CPU

Prints Markdown: the network alone by batch size and canvas, with its share of the GPU's throughput in a large matrix
product; the whole colorizer, and the share of Python in it; the difference from CPU colors; a real out-of-memory error
and the fallback; the training step. The images are structured noise, since cost does not depend on their content.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from colorize.imaging.canvas import Canvases, Fitted
from colorize.models import ColorModel
from colorize.models.checkpoint import load_checkpoint
from colorize.predict.colorizer import Colorizer
from colorize.predict.oom_fallback import color_with_fallback
from colorize.predict.torch_network import TorchNetwork, torch_colorizer
from colorize.settings import load_settings
from colorize.weights import shipped_weights

CANVASES = ((256, 256), (224, 288), (192, 352))
SIZE = 256
RECIPE = Path(__file__).parents[1] / "configs/train/unet.yaml"


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    batches: tuple[int, ...]
    seconds: float  # per measurement
    images: int  # per call of the colorizer
    train_batches: tuple[int, ...]
    train_side: int


FULL = Effort((1, 8, 32, 128), 4.0, 2048, (32, 256), 128)
QUICK = Effort((1, 4), 0.2, 16, (2,), 64)


class Device:
    """The GPU, or the CPU if there is none."""

    def __init__(self) -> None:
        self.has_gpu = torch.cuda.is_available()
        self.type = "cuda" if self.has_gpu else "cpu"
        self.name = torch.cuda.get_device_name() if self.has_gpu else f"CPU, {torch.get_num_threads()} threads"

    def wait(self) -> None:
        if self.has_gpu:
            torch.cuda.synchronize()

    def peak_mb(self) -> float:
        """Peak memory of tensors since the last call."""
        if not self.has_gpu:
            return float("nan")
        peak = torch.cuda.max_memory_allocated() / 2**20
        torch.cuda.reset_peak_memory_stats()
        return peak

    def rate(self, work: Callable[[], object], seconds: float) -> float:
        """Calls of `work` per second, after two warm-up calls."""
        work(), work()
        self.wait()
        started, count = time.perf_counter(), 0
        while not count or time.perf_counter() - started < seconds:
            work()
            count += 1
            if count % 8 == 0:
                self.wait()  # or a thousand launches are queued when the time is over
        self.wait()
        return count / (time.perf_counter() - started)


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--seconds", type=float, default=FULL.seconds, help="duration of each measurement")
    asked, device = parser.parse_args(), Device()
    effort = QUICK if asked.quick else replace(FULL, seconds=asked.seconds)
    model = load_checkpoint(shipped_weights()["default"]).model
    print(f"{device.name}; torch {torch.__version__}, CUDA {torch.version.cuda}\n")
    peak = matrix_tflops(device, effort)
    print(f"Matrix product, bfloat16: {peak:.1f} TFLOP/s\n")
    for table in (
        network_table(model, device, effort, peak),
        colorizer_table(model, device, effort),
        error_lines(model, device),
        shortage_lines(model, device, effort),
        training_table(device, effort),
    ):
        for line in table:
            print(line, flush=True)
        print()


def matrix_tflops(device: Device, effort: Effort) -> float:
    """The GPU's bfloat16 throughput in a product of large square matrices."""
    side = 8192 if device.has_gpu else 512
    a = torch.randn(side, side, device=device.type, dtype=torch.bfloat16)
    return 2 * side**3 * device.rate(lambda: a @ a, effort.seconds) / 1e12


def network_table(model: ColorModel, device: Device, effort: Effort, peak: float) -> Iterator[str]:
    """The network's forward pass and decoding, with lightness already on the device."""
    yield "| canvas | batch | images/s | TFLOP/s | fraction of the matrix product | peak memory, MB |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for canvas in CANVASES:
        for batch in effort.batches:
            network = TorchNetwork(copy.deepcopy(model), device=device.type)
            L_B1HW = torch.full((batch, 1, *canvas), 50.0, device=device.type)
            with torch.inference_mode():
                with FlopCounterMode(display=False) as counter:
                    network.forward(L_B1HW, (), True)
                device.peak_mb()
                rate = device.rate(lambda n=network, x=L_B1HW: n.forward(x, (), True), effort.seconds)  # type: ignore[misc]
            tflops = counter.get_total_flops() * rate / 1e12
            share = f"{tflops:.1f} | {100 * tflops / peak:.1f} %"
            yield f"| {canvas[0]} x {canvas[1]} | {batch} | {batch * rate:,.0f} | {share} | {device.peak_mb():,.0f} |"


def colorizer_table(model: ColorModel, device: Device, effort: Effort) -> Iterator[str]:
    """Fitted images of four shapes in, colors and confidence out; and the CPU time."""
    yield "| images per call | batch | images/s | CPU ms per image | peak memory, MB |"
    yield "| ---: | ---: | ---: | ---: | ---: |"
    seen = images(effort.images)
    for batch in effort.batches[-4:]:
        colorizer = torch_colorizer(copy.deepcopy(model), size=SIZE, batch_size=batch, device=device.type)
        device.peak_mb()
        began, calls = time.process_time(), 0

        def call(colorizer: Colorizer = colorizer) -> None:
            nonlocal calls
            calls += 1
            colorizer.color(seen, confidence=True)

        rate = device.rate(call, 2 * effort.seconds) * len(seen)
        cpu = 1000 * (time.process_time() - began) / (calls * len(seen))
        yield f"| {len(seen)} | {batch} | {rate:,.0f} | {cpu:.3f} | {device.peak_mb():,.0f} |"


def images(count: int) -> list[Fitted]:
    """Smooth noise in four shapes, fitted as by the load stage."""
    random, canvases = np.random.default_rng(0), Canvases(SIZE, 32)
    shapes = ((600, 800), (800, 600), (600, 900), (900, 600))
    return [canvases.fitted(_smooth(random, shapes[number % len(shapes)])) for number in range(count)]


def _smooth(random: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.uint8]:
    coarse = random.integers(0, 256, (shape[0] // 50, shape[1] // 50)).astype(np.uint8)
    return np.kron(coarse, np.ones((50, 50), np.uint8))


def error_lines(model: ColorModel, device: Device) -> Iterator[str]:
    """Colors of the device, in its own precision and in float32, against the CPU's in float32."""
    seen = images(16)
    exact = torch_colorizer(copy.deepcopy(model), size=SIZE, precision="float32")(seen)
    for precision in ("auto", "float32"):
        colorizer = torch_colorizer(copy.deepcopy(model), size=SIZE, device=device.type, precision=precision)
        error = np.concatenate([np.abs(a - b).ravel() for a, b in zip(colorizer(seen), exact, strict=True)])
        yield f"Error against the CPU, {precision}: {error.mean():.4f} Lab units mean, {error.max():.3f} maximum"


def shortage_lines(model: ColorModel, device: Device, effort: Effort) -> Iterator[str]:
    """A real memory limit that the batch does not fit into."""
    if not device.has_gpu:
        yield "Out of memory: not tested, there is no GPU"
        return
    seen, batch = images(effort.images), effort.batches[-1]
    colorizer = torch_colorizer(copy.deepcopy(model), size=SIZE, batch_size=batch, device="cuda")
    device.peak_mb()
    full, _ = color_with_fallback(colorizer, seen)
    needed = device.peak_mb() * 2**20
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.4 * needed / torch.cuda.get_device_properties(0).total_memory)
    try:
        colors, word = color_with_fallback(colorizer, seen)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    differs = max(float(np.abs(a.ab - b.ab).max()) for a, b in zip(colors, full, strict=True))
    yield (
        f"Out of memory: a batch of {batch} with two fifths of its {needed / 2**20:,.0f} MB: went on with "
        f"{word or 'nothing less'}; colors differ by {differs:.3f} Lab units at most"
    )


def training_table(device: Device, effort: Effort) -> Iterator[str]:
    """Training steps of the `unet` recipe, with images on the device."""
    try:
        from colorize.train.settings import TrainSettings
        from colorize.train.step import create_state, step
    except ImportError as error:  # packages that read images, which a machine with only torch may lack
        yield f"Training step: not measured ({error})"
        return
    yield "| training step, batch | samples/s | peak memory, MB |\n| ---: | ---: | ---: |"
    side = effort.train_side
    changes = [f"trainer.sizes=[{side}]", f"validation.size={side}", "model.pretrained=false"]
    settings = load_settings(TrainSettings, RECIPE, changes)
    for batch in effort.train_batches:
        state = create_state(settings, device.type)
        rgb = torch.rand(batch, 3, side, side, device=device.type)
        device.peak_mb()
        rate = device.rate(lambda s=state, x=rgb: step(s, x), effort.seconds)  # type: ignore[misc]
        yield f"| {batch} | {batch * rate:,.0f} | {device.peak_mb():,.0f} |"


if __name__ == "__main__":
    main()
