"""The OOM fallback: smaller batches and canvases, a report of each reduction, and other errors raised."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from colorize.predict.colorizer import Colorizer
from colorize.predict.oom_fallback import color_with_fallback
from colorize.predict.torch_network import torch_colorizer


class Hungry(nn.Module):
    """A network that has memory for so many pixels at once, and records its calls."""

    stride = 32

    def __init__(self, room: int, fault: str = "CUDA out of memory. Tried to allocate 2.00 GiB") -> None:
        super().__init__()
        self.room = room
        self.fault = fault
        self.asked: list[tuple[int, ...]] = []

    def forward(self, L_B1HW: Tensor) -> Tensor:
        self.asked.append(tuple(L_B1HW.shape))
        if L_B1HW.numel() > self.room:
            raise RuntimeError(self.fault)
        return nn.functional.avg_pool2d(L_B1HW, 4).repeat(1, 2, 1, 1)


GREYS = [np.full((128, 128), value, np.uint8) for value in range(0, 80, 10)]


def colorizer(room: int, **options: str) -> Colorizer:
    return torch_colorizer(Hungry(room, **options), size=128, batch_size=8, precision="float32")


def test_with_enough_memory_nothing_changes() -> None:
    colors, degraded = color_with_fallback(colorizer(8 * 128 * 128), GREYS)

    assert (len(colors), degraded) == (8, "")


def test_the_batch_size_is_halved_until_it_fits() -> None:
    tight = colorizer(3 * 128 * 128)
    colors, degraded = color_with_fallback(tight, GREYS)
    assert degraded == "batch of 2"
    assert [color.ab.shape for color in colors] == [(2, 32, 32)] * 8
    assert colors[0].ab.mean() < colors[7].ab.mean()

    assert color_with_fallback(tight, GREYS)[1] == ""
    assert tight.batch_size == 2


def test_then_the_canvas_is_halved_for_these_images_only() -> None:
    tight = colorizer(128 * 128 // 2)
    colors, degraded = color_with_fallback(tight, GREYS)

    assert degraded == "size 64"
    assert {color.ab.shape for color in colors} == {(2, 16, 16)}
    assert tight.canvas_size == 128


@pytest.mark.parametrize("fault", ["DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"])
def test_without_a_fallback_left_the_error_says_so(fault: str) -> None:
    with pytest.raises(RuntimeError, match="out of memory: 8 images"):
        color_with_fallback(colorizer(0, fault=fault), GREYS)


def test_other_errors_are_not_treated_as_oom() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        color_with_fallback(colorizer(0, fault="mat1 and mat2 shapes cannot be multiplied"), GREYS)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_full_gpu_falls_back_to_the_cpu() -> None:
    class OnlyCpu(Hungry):
        def forward(self, L_B1HW: Tensor) -> Tensor:
            self.room = 10**9 if L_B1HW.device.type == "cpu" else 0
            return super().forward(L_B1HW)

    tight = torch_colorizer(OnlyCpu(0), size=128, batch_size=2, device="cuda", precision="float32")
    colors, degraded = color_with_fallback(tight, GREYS)

    assert (len(colors), degraded) == (8, "on the CPU")
    assert tight.network.device == "cuda"
