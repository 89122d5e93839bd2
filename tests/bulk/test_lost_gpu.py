"""A failed GPU ends its predictor's process: Ray restarts an actor that died, not one that raised."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from colorize.bulk import predictor
from colorize.bulk.predictor import GPU_LOST, Predictor


@pytest.fixture
def predicting(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A predictor whose network raises the exception in its batch."""

    def fail(_: object, messages: list[str], *__: object) -> NoReturn:
        raise RuntimeError(messages[0])

    monkeypatch.setattr(predictor, "color_with_fallback", fail)
    stage: Any = Predictor.__new__(Predictor)
    stage.suspects, stage.network = 0, SimpleNamespace(colorizer=None, confidence=False)
    return stage


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: uncorrectable ECC error encountered",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    ],
)
def test_a_gpu_error_ends_the_process(predicting: Any, message: str) -> None:
    process = os.fork()
    if not process:
        try:
            predicting._color([message])
        finally:
            os._exit(1)  # it raised

    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == GPU_LOST


def test_any_other_fault_is_raised(predicting: Any) -> None:
    with pytest.raises(RuntimeError, match="shapes do not match"):
        predicting._color(["shapes do not match"])
