"""A GPU that has failed ends its predictor's process: Ray starts an actor again that died, not one that raised."""

from __future__ import annotations

import subprocess
import sys

import pytest

from colorize.bulk.predictor import GPU_LOST

PREDICT = """
from types import SimpleNamespace
from colorize.bulk.predictor import Predictor
import colorize.bulk.predictor as stage

def fail(*_):
    raise RuntimeError({message!r})

stage.color_with_fallback = fail
predictor = Predictor.__new__(Predictor)
predictor.suspects, predictor.network = 0, SimpleNamespace(colorizer=None, confidence=False)
predictor._color([])
"""


def ended(message: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PREDICT.format(message=message)], capture_output=True, text=True)


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: uncorrectable ECC error encountered",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    ],
)
def test_a_fault_of_the_gpu_leaves_the_process(message: str) -> None:
    assert ended(message).returncode == GPU_LOST


def test_any_other_fault_is_raised() -> None:
    done = ended("shapes do not match")
    assert done.returncode == 1
    assert "RuntimeError: shapes do not match" in done.stderr
