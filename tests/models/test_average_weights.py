"""Averages of checkpoints."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from colorize.errors import UsageError
from colorize.models import create_model
from colorize.models.checkpoint import dump_checkpoint, load_checkpoint
from scripts.average_weights import average, main


def test_each_weight_is_the_mean_of_both(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = create_model("lab_cnn")
    second = copy.deepcopy(first)
    with torch.no_grad():
        for weight in second.parameters():
            weight.add_(1)
    for name, model in (("a", first), ("b", second)):
        (tmp_path / f"{name}.safetensors").write_bytes(dump_checkpoint(model, name="lab_cnn", args={}))
    main([f"1={tmp_path}/a.safetensors", f"3={tmp_path}/b.safetensors"], tmp_path / "mean.safetensors")
    mean = load_checkpoint(tmp_path / "mean.safetensors").model
    for ours, theirs in zip(mean.parameters(), first.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs + 0.75, atol=1e-3, rtol=1e-3)


def test_different_architectures_cannot_be_averaged(tmp_path: Path) -> None:
    for name, args in (("a", {}), ("b", {"canvas": 64})):
        data = dump_checkpoint(create_model("lab_cnn", **args), name="lab_cnn", args=args)
        (tmp_path / f"{name}.safetensors").write_bytes(data)
    checkpoints = [load_checkpoint(tmp_path / f"{name}.safetensors") for name in "ab"]
    with pytest.raises(UsageError, match="different networks"):
        average(checkpoints, [1, 1])
