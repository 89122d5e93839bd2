"""ONNX Runtime on CPUs: the same colors as PyTorch for every model built as a shipped one, without importing it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from colorize.models import create_model
from colorize.models.checkpoint import dump_checkpoint, load_checkpoint
from colorize.predict.colorizer import Colorizer
from colorize.predict.onnx_network import OnnxNetwork
from colorize.predict.opening import open_colorizer
from colorize.predict.settings import ColorizerSettings
from colorize.predict.torch_network import TorchNetwork, torch_colorizer
from colorize.weights import checkpoint_metadata, fitting_graph, shipped_weights

DEFAULT = shipped_weights()["default"].read_bytes()
FLOAT16_STEP = 0.0625  # Lab units, between colors of 64 and 128


def opened(checkpoint: bytes = DEFAULT, **settings: Any) -> Colorizer:
    return open_colorizer(checkpoint, ColorizerSettings.model_validate(settings), threads=1)


def trained_further(**args: object) -> bytes:
    """A checkpoint built as the default but for `args`, with weights of its own."""
    metadata = checkpoint_metadata(DEFAULT)
    built = json.loads(metadata["args"]) | args
    torch.manual_seed(0)
    return dump_checkpoint(create_model(metadata["model"], **built), name=metadata["model"], args=built)


@pytest.mark.parametrize("checkpoint", [DEFAULT, trained_further(drop=0.3)], ids=["shipped", "trained further"])
def test_colors_and_confidence_are_those_of_pytorch(checkpoint: bytes, astronaut: Image.Image) -> None:
    grey = np.asarray(astronaut.convert("L"))
    images = [grey, grey[:200], grey[:, :100], grey[::4, ::4]]
    mine = opened(checkpoint)
    theirs = torch_colorizer(load_checkpoint(checkpoint).model, precision="float32")

    assert isinstance(mine.network, OnnxNetwork)
    found, expected = (colorizer.color(images, confidence=True) for colorizer in (mine, theirs))
    for ours, torchs in zip(found, expected, strict=True):
        assert np.abs(ours.ab.astype(np.float32) - torchs.ab).max() <= FLOAT16_STEP
        assert ours.confidence == pytest.approx(torchs.confidence, abs=1e-4)


def test_a_batch_gives_what_its_images_give_one_by_one(astronaut: Image.Image) -> None:
    grey = np.asarray(astronaut.convert("L"))
    together, alone = opened(), opened()
    for ab, own in zip(together([grey, grey[::-1]]), [*alone([grey]), *alone([grey[::-1]])], strict=True):
        np.testing.assert_allclose(ab.astype(np.float32), own, atol=FLOAT16_STEP)


@pytest.mark.parametrize("args", [{"temperature": 0.5}, {"encoder": "lite0"}, {"spread": 0.0}])
def test_a_network_that_is_built_otherwise_runs_in_pytorch(args: dict[str, object]) -> None:
    assert fitting_graph(trained_further(**args)) is None
    assert isinstance(opened(trained_further(**args)).network, TorchNetwork)


@pytest.mark.parametrize("settings", [{"temperature": 0.4}, {"precision": "bfloat16"}])
def test_what_the_graph_has_not_got_runs_in_pytorch(settings: dict[str, Any]) -> None:
    assert isinstance(opened(**settings).network, TorchNetwork)


@pytest.mark.slow
def test_no_part_of_torch_is_imported_to_color_on_a_cpu() -> None:
    code = (
        "import sys, numpy as np, colorize\n"
        "colorize.load('default', device='cpu')(np.zeros((64, 64), np.uint8))\n"
        "import colorize.bulk.predictor\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
