"""ONNX Runtime on CPUs: the colors of PyTorch for every model with a shipped architecture, without importing it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from colorize.models import create_model
from colorize.models.checkpoint import dump_checkpoint, load_checkpoint
from colorize.predict.colorizer import Colorizer
from colorize.predict.onnx_network import OnnxNetwork, upsampling
from colorize.predict.opening import open_colorizer
from colorize.predict.settings import ColorizerSettings
from colorize.predict.torch_network import TorchNetwork, torch_colorizer
from colorize.weights import checkpoint_metadata, fitting_graph, shipped_weights

DEFAULT = shipped_weights()["default"].read_bytes()
FLOAT16_STEP = 0.0625  # Lab units, between colors of 64 and 128


def opened(checkpoint: bytes = DEFAULT, **settings: Any) -> Colorizer:
    return open_colorizer(checkpoint, ColorizerSettings.model_validate(settings), threads=1)


def trained_further(**args: object) -> bytes:
    """A checkpoint with the default's architecture except for `args`, with random weights."""
    metadata = checkpoint_metadata(DEFAULT)
    built = json.loads(metadata["args"]) | args
    torch.manual_seed(0)
    return dump_checkpoint(create_model(metadata["model"], **built), name=metadata["model"], args=built)


@pytest.mark.parametrize("checkpoint", [DEFAULT, trained_further(drop=0.3)], ids=["shipped", "trained further"])
def test_colors_and_confidence_match_pytorch(checkpoint: bytes, astronaut: Image.Image) -> None:
    grey = np.asarray(astronaut.convert("L"))
    images = [grey, grey[:200], grey[:, :100], grey[::4, ::4]]
    mine = opened(checkpoint)
    theirs = torch_colorizer(load_checkpoint(checkpoint).model, precision="float32")

    assert isinstance(mine.network, OnnxNetwork)
    found, expected = (colorizer.color(images, confidence=True) for colorizer in (mine, theirs))
    for ours, torchs in zip(found, expected, strict=True):
        assert np.abs(ours.ab.astype(np.float32) - torchs.ab).max() <= FLOAT16_STEP
        assert ours.confidence == pytest.approx(torchs.confidence, abs=1e-4)


def test_batched_images_are_bit_identical_to_single_ones(astronaut: Image.Image) -> None:
    grey = np.asarray(astronaut.convert("L"))
    images = [grey, grey[::-1], grey[:, ::-1]]
    colorizer = opened()
    assert colorizer.batch_size == 2
    alone = [colorizer.color([image], confidence=True)[0] for image in images]
    for batch_size in (2, 3):
        colorizer.batch_size = batch_size
        for together, own in zip(colorizer.color(images, confidence=True), alone, strict=True):
            np.testing.assert_array_equal(together.ab, own.ab)
            assert together.confidence == own.confidence


@pytest.mark.parametrize("size", [1, 2, 7])
def test_upsampling_matches_pytorch_upsampling_and_convolution(size: int) -> None:
    random = np.random.default_rng(0)
    line, taps = random.normal(size=size).astype(np.float32), random.normal(size=3).astype(np.float32)
    found = upsampling(size) @ np.outer(line, taps).reshape(-1)

    doubled = functional.interpolate(torch.from_numpy(line)[None, None], scale_factor=2, mode="linear")
    expected = functional.conv1d(doubled, torch.from_numpy(taps)[None, None], padding=1)
    np.testing.assert_allclose(found, expected[0, 0], atol=1e-6)


@pytest.mark.parametrize("args", [{"temperature": 0.5}, {"encoder": "lite0"}, {"spread": 0.0}])
def test_networks_without_a_matching_graph_run_in_pytorch(args: dict[str, object]) -> None:
    assert fitting_graph(trained_further(**args)) is None
    assert isinstance(opened(trained_further(**args)).network, TorchNetwork)


@pytest.mark.parametrize("settings", [{"temperature": 0.4}, {"precision": "bfloat16"}])
def test_features_missing_in_the_graph_run_in_pytorch(settings: dict[str, Any]) -> None:
    assert isinstance(opened(**settings).network, TorchNetwork)


@pytest.mark.slow
def test_coloring_on_a_cpu_imports_no_torch() -> None:
    code = (
        "import sys, numpy as np, colorize\n"
        "colorize.load('default', device='cpu')(np.zeros((64, 64), np.uint8))\n"
        "import colorize.bulk.predictor\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
