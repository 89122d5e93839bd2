"""Where a training computes, and what makes it fast there."""

from __future__ import annotations

import ctypes
import sys

import torch

from colorize.errors import UsageError
from colorize.settings import Device

GPU_SHARE = 0.4  # of a GPU's free memory: the rest is for the network
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def choose_device(wanted: Device) -> torch.device:
    """The GPU, if there is one and it is wanted, else the CPUs, made ready.

    Raises:
        UsageError: a GPU is asked for, and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError("trainer.device=cuda: torch finds no GPU here; set trainer.device=auto")
    device = torch.device("cuda" if torch.cuda.is_available() and wanted != "cpu" else "cpu")
    make_ready(device)
    return device


def make_ready(device: torch.device) -> None:
    """Settings of this process that cost nothing in quality."""
    if device.type == "cuda":
        # Not cudnn.benchmark: it tries its kernels for 20 s for each shape of image, and found none that is faster
        # (H200, torch 2.11, channels last, bfloat16).
        torch.set_float32_matmul_precision("high")
    elif sys.platform == "linux":
        _keep_freed_memory()


def keeps_on_gpu(size: float, device: torch.device) -> bool:
    """Whether images of so many bytes can stay on the device, beside the network."""
    return device.type == "cuda" and size < GPU_SHARE * torch.cuda.mem_get_info(device)[0]


def _keep_freed_memory() -> None:
    """Large tensors come from the heap, which never shrinks: fetched anew at every step, their pages are zeroed anew.

    Where the C library has no `mallopt`, as musl's, nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
