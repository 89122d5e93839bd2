"""Chooses and configures the device to train on."""

from __future__ import annotations

import ctypes
import sys

import torch

from colorize.errors import UsageError
from colorize.settings import Device

GPU_SHARE = 0.4  # of a GPU's free memory: the rest is for the network
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def choose_device(wanted: Device) -> torch.device:
    """The GPU if available and wanted, else the CPU; configured.

    Raises:
        UsageError: a GPU is required, and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError("trainer.device=cuda: torch finds no GPU here; set trainer.device=auto")
    device = torch.device("cuda" if torch.cuda.is_available() and wanted != "cpu" else "cpu")
    configure_device(device)
    return device


def configure_device(device: torch.device) -> None:
    """Configures this process for speed, without loss of quality."""
    if device.type == "cuda":
        # Not cudnn.benchmark: it takes 20 s per image shape and found no faster kernels (H200, torch 2.11, channels
        # last, bfloat16).
        torch.set_float32_matmul_precision("high")
    elif sys.platform == "linux":
        _keep_freed_memory()


def keeps_on_gpu(size: float, device: torch.device) -> bool:
    """Whether `size` bytes of images fit on the GPU next to the network."""
    return device.type == "cuda" and size < GPU_SHARE * torch.cuda.mem_get_info(device)[0]


def _keep_freed_memory() -> None:
    """Makes glibc keep freed memory: otherwise large tensors are mapped and zeroed again in every step.

    No effect if the C library has no `mallopt`, such as musl.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
