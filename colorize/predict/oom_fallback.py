"""The OOM fallback: half the batch, down to one image; then half the size; then the CPU."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from colorize.imaging.canvas import Fitted
from colorize.imaging.hinting import GreyInput
from colorize.predict.colorizer import Colored, Colorizer

log = logging.getLogger("colorize")

_NO_MEMORY = (
    "out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC",
    "bad allocation", "bad_alloc", "Failed to allocate memory",
)  # fmt: skip
SMALLEST_SIZE = 64  # minimum side of the canvas, in pixels


def color_with_fallback(
    colorizer: Colorizer, greys: Sequence[GreyInput | Fitted], confidence: bool = False
) -> tuple[list[Colored], str]:
    """The images' colors, and the fallback used ("" for none).

    A smaller batch size is kept for later calls, which would run out of memory, too. Size and device are restored,
    because they affect the output.

    Raises:
        RuntimeError: out of memory on the CPU, too.
    """
    size, device = colorizer.canvas_size, colorizer.network.device
    spent: list[str] = []
    try:
        for step in _steps(colorizer):
            spent = [*spent, step] if step else spent
            try:
                return colorizer.color(greys, confidence=confidence), spent[-1] if spent else ""
            except (RuntimeError, MemoryError) as error:
                if not _lacks_memory(error):
                    raise
                log.warning("out of memory while coloring %d images (%s)", len(greys), step or "no fallback yet")
            colorizer.network.move(colorizer.network.device)  # frees cached memory
        raise RuntimeError(f"out of memory: {len(greys)} images, one at a time, at half the size, on the CPU")
    finally:
        colorizer.canvas_size = size
        if colorizer.network.device != device:
            colorizer.network.move(device)


def _lacks_memory(error: BaseException) -> bool:
    """Whether torch, ONNX Runtime or Python ran out of memory; the runtimes only say so in the message."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY)


def _steps(colorizer: Colorizer) -> Iterator[str]:
    """Reduces the colorizer's demands step by step; yields a description of each step."""
    network = colorizer.network
    yield ""
    while colorizer.batch_size > 1:
        colorizer.batch_size //= 2
        yield f"batch of {colorizer.batch_size}"
    half = colorizer.canvas_size // 2 // network.stride * network.stride
    if network.canvas is None and half >= SMALLEST_SIZE:
        colorizer.canvas_size = half
        yield f"size {half}"
    if network.device != "cpu":
        network.move("cpu")
        yield "on the CPU"
