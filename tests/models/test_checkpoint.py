"""Checkpoints: strict, self-describing, identified by their content."""

from __future__ import annotations

import hashlib
import json
import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from colorize.models import create_model, list_models
from colorize.models.checkpoint import (
    CheckpointError,
    dump_checkpoint,
    load_checkpoint,
)
from colorize.weights import shipped_weights

ARGS = {"widths": [32, 16, 16], "context": 32, "context_blocks": 1, "grid": 20.0, "temperature": 0.5}


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return create_model("unet", **ARGS).eval()


@pytest.fixture
def file(model: torch.nn.Module, tmp_path: Path) -> Path:
    target = tmp_path / "model.safetensors"
    target.write_bytes(dump_checkpoint(model, name="unet", args=ARGS))
    return target


def rewrite(
    file: Path, changes: Mapping[str, torch.Tensor | None] | None = None, metadata: dict[str, str] | None = None
) -> Path:
    """The same checkpoint with tensors replaced, added or (None) left out, or with other metadata."""
    state = {key: value for key, value in (load_file(file) | dict(changes or {})).items() if value is not None}
    save_file(state, file, metadata=metadata or {"model": "unet", "args": json.dumps(ARGS)})
    return file


def test_it_rebuilds_name_arguments_and_colors(model: torch.nn.Module, file: Path) -> None:
    loaded = load_checkpoint(file)
    L = torch.rand(1, 1, 64, 64) * 100
    assert (loaded.name, loaded.args, loaded.model.training) == ("unet", ARGS, False)
    with torch.inference_mode():
        assert torch.equal(loaded.model(L), model(L))


def test_the_hash_depends_only_on_the_content(file: Path) -> None:
    data = file.read_bytes()
    assert load_checkpoint(data).sha256 == load_checkpoint(str(file)).sha256 == hashlib.sha256(data).hexdigest()


def test_the_same_network_gives_the_same_bytes(model: torch.nn.Module) -> None:
    assert len({dump_checkpoint(model, name="unet", args=ARGS) for _ in range(4)}) == 1


def test_half_precision_halves_the_file_and_loads_as_float32(model: torch.nn.Module, file: Path) -> None:
    half = file.with_name("half.safetensors")
    half.write_bytes(dump_checkpoint(model, name="unet", args=ARGS, dtype=torch.float16))
    assert half.stat().st_size < 0.55 * file.stat().st_size
    assert {p.dtype for p in load_checkpoint(half).model.parameters()} == {torch.float32}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.safetensors: No such file"):
        load_checkpoint(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("data", [b"", b"\x80\x04pickle", b"x" * 4096])
def test_a_file_other_than_safetensors_is_refused(data: bytes) -> None:
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(data)


def test_a_truncated_file_is_refused(file: Path) -> None:
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(file.read_bytes()[:-100])


def test_weights_without_a_model_name_are_refused() -> None:
    with pytest.raises(CheckpointError, match="does not say which model"):
        load_checkpoint(save({"weight": torch.zeros(1)}))


def test_an_unknown_model_names_the_nearest(file: Path) -> None:
    with pytest.raises(CheckpointError, match=r"unknown model 'unte'.*'unet'"):
        load_checkpoint(rewrite(file, metadata={"model": "unte", "args": "{}"}))


@pytest.mark.parametrize("args", ["[]", "{", '"x"', "[" * 100_000], ids=["list", "broken", "text", "deep"])
def test_arguments_other_than_an_object_are_refused(file: Path, args: str) -> None:
    with pytest.raises(CheckpointError, match="no JSON object"):
        load_checkpoint(rewrite(file, metadata={"model": "unet", "args": args}))


def test_a_missing_tensor_is_named(file: Path) -> None:
    with pytest.raises(CheckpointError, match=r"lacks head\.bias"):
        load_checkpoint(rewrite(file, {"head.bias": None}))


def test_an_unknown_tensor_is_named(file: Path) -> None:
    with pytest.raises(CheckpointError, match="has unknown surprise"):
        load_checkpoint(rewrite(file, {"surprise": torch.zeros(1)}))


def test_a_wrong_shape_is_named_with_both_shapes(file: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a wrong shape of head\.bias \(3,\) for \(\d+,\)"):
        load_checkpoint(rewrite(file, {"head.bias": torch.zeros(3)}))


def test_the_default_model_loads() -> None:
    file = shipped_weights()["default"]
    assert file.stat().st_size <= 20e6
    loaded = load_checkpoint(file)
    with torch.inference_mode():
        assert loaded.model(torch.full((1, 1, 64, 64), 50.0)).isfinite().all()


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("lab_cnn", {"widths": [10**5] * 3}),
        ("lab_cnn", {"widths": [10**12] * 3}),
        ("lab_cnn", {"widths": "wide"}),
        ("unet", ARGS | {"context_blocks": 10**9}),
        ("unet", ARGS | {"grid": 1e-3}),
        ("unet", ARGS | {"grid": 0}),
        ("palette_cnn", {"colors": 10**12}),
    ],
)
def test_arguments_for_a_huge_network_are_refused_before_building_it(name: str, args: dict[str, Any]) -> None:
    data = dump_checkpoint(create_model("dense"), name=name, args=args)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(CheckpointError):
        load_checkpoint(data)
    assert time.monotonic() - started < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kilobytes


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_every_model_can_be_built_on_the_meta_device(name: str) -> None:
    """As loading a checkpoint does, before it builds anything."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in create_model(name).state_dict().items()}
    assert shapes == {key: value.shape for key, value in create_model(name).state_dict().items()}
