"""Folding of batch normalization: the same function with fewer layers, without changing the original."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from colorize.models import create_model
from colorize.models.fusion import fused
from colorize.predict.torch_network import TorchNetwork


def lively(model: nn.Module) -> nn.Module:
    """Random batch statistics: those of a new network have no effect."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in ((module.running_mean, -1, 1), (module.running_var, 0.5, 2)):
                assert tensor is not None
                tensor.uniform_(low, high)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize("name", ["unet", "gan"])
def test_fusion_preserves_the_output(name: str) -> None:
    torch.manual_seed(0)
    model = lively(create_model(name))
    L = torch.rand(1, 1, 64, 64) * 100
    with torch.inference_mode():
        torch.testing.assert_close(fused(model)(L), model(L), atol=1e-2, rtol=1e-3)


def test_every_pair_is_fused_and_the_original_unchanged() -> None:
    model = create_model("unet").eval()
    before = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert before > 40
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused(model).modules())
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == before


def test_a_network_without_pairs_is_returned_uncopied() -> None:
    model = create_model("lab_cnn").eval()
    if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        pytest.skip("it has batch normalization")
    assert fused(model) is model


def test_normalization_before_a_convolution_is_not_fused() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3)).eval()
    assert fused(model) is model


@pytest.mark.parametrize(("precision", "folded"), [("float32", True), ("bfloat16", False)])
def test_the_fused_network_is_used_except_in_bfloat16(precision: str, folded: bool) -> None:
    model = TorchNetwork(create_model("unet"), precision=precision).model
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules()) != folded
