"""Exported ONNX models: ONNX Runtime matches torch, also at sizes that were not traced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from colorize.cli import EXIT_USAGE, run
from colorize.models import create_model
from colorize.models.checkpoint import dump_checkpoint, load_checkpoint
from colorize.predict import export as exporting
from tests.small_models import SMALL_ARGS


def checkpoint(name: str, folder: Path) -> Path:
    torch.manual_seed(0)
    target, args = folder / f"{name}.safetensors", SMALL_ARGS.get(name, {})
    target.write_bytes(dump_checkpoint(create_model(name, **args), name=name, args=args))
    return target


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddcolor_tiny", "eccv16", "lab_cnn", "palette_cnn", "siggraph17"])
def test_onnx_runtime_matches_torch(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = checkpoint(name, tmp_path), tmp_path / "model.onnx"
    assert run(["export", str(source), "-o", str(target)]) == 0
    assert f"({name}, within" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(target.read_bytes(), providers=["CPUExecutionProvider"])
    network = load_checkpoint(source).model
    for batch, shape in ((1, (96, 64)), (3, (64, 128))):
        rows, columns = (network.canvas,) * 2 if network.canvas == network.stride else shape
        generator = torch.Generator().manual_seed(batch)
        given = {"L": torch.rand(batch, 1, rows, columns, generator=generator) * 100}
        if network.takes_hints:
            given["ab"] = torch.rand(batch, 2, rows, columns, generator=generator) * 80 - 40
            given["mask"] = (given["L"] > 95).float()
        (color,) = session.run(None, {key: value.numpy() for key, value in given.items()})
        with torch.inference_mode():
            np.testing.assert_allclose(color, network(*given.values()).numpy(), atol=exporting.TOLERANCE)


def test_an_export_with_different_outputs_is_refused(tmp_path: Path) -> None:
    network = load_checkpoint(checkpoint("palette_cnn", tmp_path)).model
    data = exporting.to_onnx(network)
    network.state_dict()["palette_K3"].copy_(torch.eye(4, 3))  # greys until then
    with pytest.raises(exporting.ExportError, match="differs from torch by"):
        exporting.difference(network, data)


def test_published_weights_become_a_checkpoint(tmp_path: Path) -> None:
    assert run(["export", "default", "-o", str(tmp_path / "copy.safetensors")]) == 0
    assert "head.bias" in load_file(tmp_path / "copy.safetensors")
    assert load_checkpoint(tmp_path / "copy.safetensors").name == "unet"


@pytest.mark.parametrize("output", ["model.pt", "s3://bucket/model.onnx"])
def test_other_suffixes_and_locations_are_refused(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "default", "-o", output]) == EXIT_USAGE
    assert "give a local file that ends in .onnx or .safetensors" in capsys.readouterr().err
