"""The alternative heads of `unet`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from colorize.errors import UsageError
from colorize.models import BinModel, ColorModel, create_model
from colorize.models.checkpoint import dump_checkpoint, load_checkpoint
from colorize.models.unet import Unet

TINY: dict[str, Any] = {"widths": [16, 16, 16], "context": 32, "context_blocks": 1}
HEADS: list[dict[str, Any]] = [
    {"grid": 20.0},
    {"grid": 20.0, "output_stride": 2},
    {"head": "regression"},
    {"head": "regression", "output_stride": 2},
    {"head": "queries", "queries": 20},
    {"head": "queries", "queries": 5, "output_stride": 2},
]


@pytest.fixture(params=HEADS, ids=json.dumps)
def args(request: pytest.FixtureRequest) -> dict[str, Any]:
    chosen: dict[str, Any] = request.param
    return TINY | chosen


@pytest.fixture
def model(args: dict[str, Any]) -> ColorModel:
    torch.manual_seed(0)
    return create_model("unet", **args).eval()


def lightness(batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 1, 64, 96, generator=torch.Generator().manual_seed(0)) * 100


def awake(model: ColorModel) -> ColorModel:
    """Randomizes the head, which starts at grey."""
    for parameter in model.head.parameters():  # type: ignore[union-attr]
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def test_colors_have_the_requested_resolution(model: ColorModel, args: dict[str, Any]) -> None:
    side = args.get("output_stride", 4)
    with torch.inference_mode():
        ab = model(lightness())
    assert ab.shape == (1, 2, 64 // side, 96 // side)
    assert ab.dtype == torch.float32


def test_every_weight_gets_a_gradient(model: ColorModel) -> None:
    awake(model).train()(lightness(2)).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_its_checkpoint_rebuilds_it(model: ColorModel, args: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(dump_checkpoint(awake(model), name="unet", args=args))
    loaded = load_checkpoint(tmp_path / "m.safetensors").model
    with torch.inference_mode():
        torch.testing.assert_close(loaded(lightness()), model(lightness()), atol=0, rtol=0)


def test_bfloat16_arithmetic_still_gives_float32_colors(model: ColorModel) -> None:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert model(lightness()).dtype == torch.float32


def test_only_bins_are_a_distribution(model: ColorModel, args: dict[str, Any]) -> None:
    assert isinstance(model, BinModel) == ("head" not in args)


@pytest.mark.parametrize("head", ["regression", "queries"])
def test_untrained_heads_without_bins_leave_images_grey(head: str) -> None:
    with torch.inference_mode():
        assert not create_model("unet", head=head, **TINY)(lightness()).any()


def test_the_head_defaults_to_that_of_the_default_model() -> None:
    assert isinstance(create_model("unet", **TINY), Unet)


@pytest.mark.parametrize(
    ("args", "message"),
    [({"head": "querys"}, "did you mean 'queries'"), ({"output_stride": 8}, "2 or 4"), ({"queries": 3}, "queries")],
)
def test_invalid_combinations_are_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        create_model("unet", **args)
