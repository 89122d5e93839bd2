"""Coloring with less when memory runs out: half the batch, down to one image; half the size; then the CPU."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from colorize.imaging.canvas import Fitted
from colorize.imaging.hinting import Seen
from colorize.predict.colorizer import Colored, Colorizer

log = logging.getLogger("colorize")

_NO_MEMORY = (
    "out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC",
    "bad allocation", "bad_alloc", "Failed to allocate memory",
)  # fmt: skip
SMALLEST_SIZE = 64  # pixels of the canvas' side: below it a network sees nothing


def color_with_fallback(
    colorizer: Colorizer, greys: Sequence[Seen | Fitted], confidence: bool = False
) -> tuple[list[Colored], str]:
    """The images' colors, and with how much less than asked for they were made ("": nothing was given up).

    A smaller batch stays for the rest of the run, since the next images would meet the same shortage. Size and
    device are as before for the next call: they change what comes out, and few images should suffer that.

    Raises:
        RuntimeError: the memory does not suffice on the CPU either.
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
                log.warning("memory ran out coloring %d images (%s)", len(greys), step or "as planned")
            colorizer.network.move(colorizer.network.device)  # frees what is only cached
        raise RuntimeError(f"no memory to color {len(greys)} images, one by one, at half the size, on the CPU")
    finally:
        colorizer.canvas_size = size
        if colorizer.network.device != device:
            colorizer.network.move(device)


def _lacks_memory(error: BaseException) -> bool:
    """Whether torch, ONNX Runtime or Python found no memory; the runtimes say it in words."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY)


def _steps(colorizer: Colorizer) -> Iterator[str]:
    """Makes the colorizer ask for less and less; yields what was done."""
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
