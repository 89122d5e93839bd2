"""The classic networks: recorded layers, parameter counts and sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from colorize.imaging.color import grey_to_lightness
from colorize.models.checkpoint import dump_checkpoint, load_checkpoint
from colorize.models.dense import BnConvDense, ConvDense, Dense
from colorize.models.gan import Discriminator, Gan
from colorize.models.lab_cnn import LabCnn
from colorize.models.palette_cnn import PaletteCnn
from colorize.models.superres_cnn import SuperresCnn

POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def convolutions(model: nn.Module) -> list[tuple[int, int, int]]:
    """Channels, kernel and stride of each convolution, in order."""
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    return [(m.out_channels, m.kernel_size[0], m.stride[0]) for m in layers]


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 100


class TestSuperresCnn:
    def test_its_layers_and_parameters_match_the_record(self) -> None:
        model = SuperresCnn()
        widths = [64, 64, 128, 128, 256, 256, 512, 256, 128, 64, 32, 3]
        strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 1]
        kernels = [3] * 9 + [4, 3, 3]
        assert convolutions(model) == list(zip(widths, kernels, strides, strict=True))
        assert [m.scale_factor for m in model.modules() if isinstance(m, nn.Upsample)] == [4, 3, 2]
        assert count(model) == 3_949_827

    def test_it_outputs_rgb_in_range_at_three_times_the_size(self) -> None:
        with torch.inference_mode():
            rgb = SuperresCnn().rgb(noise(2, 1, 32, 32))
        assert rgb.shape == (2, 3, 96, 96)
        assert 0 <= rgb.min() <= rgb.max() <= 1

    @pytest.mark.parametrize("shape", [(32, 32), (1, 1), (33, 46)])
    def test_it_upsamples_images_of_any_size(self, shape: tuple[int, int]) -> None:
        with torch.inference_mode():
            assert SuperresCnn().enlarge(noise(1, 1, *shape)).shape == (1, 3, 3 * shape[0], 3 * shape[1])


class TestDense:
    def test_every_input_pixel_affects_every_output(self) -> None:
        L = noise(1, 1, 32, 32).requires_grad_()
        Dense().rgb(L)[0, 2, 31, 31].backward()  # type: ignore[no-untyped-call]
        assert L.grad is not None
        assert (L.grad != 0).all()

    def test_each_variant_adds_one_layer(self) -> None:
        first = [type(m) for m in (*BnConvDense().first, BnConvDense().dense)]
        assert first == [nn.BatchNorm2d, nn.Conv2d, nn.ReLU, nn.Linear]
        assert [type(m) for m in ConvDense().first] == first[1:3]
        assert len(Dense().first) == 0

    def test_the_dense_layer_has_3072_outputs(self) -> None:
        assert [kind().dense.out_features for kind in (Dense, ConvDense, BnConvDense)] == [3072] * 3
        assert count(Dense()) == 1024 * 3072 + 3072


class TestLabCnn:
    def test_its_parameters_are_within_the_recorded_range(self) -> None:
        assert 0.96e6 <= count(LabCnn(widths=(52, 104, 204))) < count(LabCnn()) <= 1.55e6

    def test_it_downsamples_by_strided_convolutions_only(self) -> None:
        model = LabCnn()
        assert {kernel for _, kernel, _ in convolutions(model)} == {3}
        assert sum(stride == 2 for _, _, stride in convolutions(model)) == 3
        assert not any(isinstance(m, POOLING) for m in model.modules())

    def test_dropout_is_active_only_in_training(self) -> None:
        model, L = LabCnn(dropout=0.5), noise(1, 1, 32, 32)
        assert not torch.equal(model.train()(L), model(L))
        assert torch.equal(model.eval()(L), model(L))

    def test_its_canvas_is_an_argument(self) -> None:
        assert LabCnn().canvas is None
        assert LabCnn(canvas=32).canvas == 32


class TestPaletteCnn:
    def test_each_of_1024_pixels_has_a_logit_for_each_color(self) -> None:
        model = PaletteCnn()
        linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
        assert [m.out_features for m in linear] == [4096]
        assert model.logits(noise(2, 1, 32, 32)).shape == (2, 4, 32, 32)

    def test_its_convolutions_have_stride_2_and_no_padding(self) -> None:
        layers = [m for m in PaletteCnn().modules() if isinstance(m, nn.Conv2d)]
        assert {m.stride for m in layers} == {(2, 2)}
        assert {m.padding for m in layers} == {(0, 0)}

    def test_a_pixel_is_assigned_to_the_nearest_color(self) -> None:
        model = PaletteCnn()
        model.palette_K3.copy_(torch.eye(4)[:, :3])  # red, green, blue, black
        rgb = torch.tensor([[0.9, 0.1, 0.2], [0.1, 0.0, 0.1], [0.2, 0.3, 0.8]]).T.reshape(1, 3, 1, 3)
        assert model.classify(rgb).tolist() == [[[0, 3, 2]]]

    def test_a_low_temperature_outputs_only_palette_colors(self) -> None:
        torch.manual_seed(0)
        model = PaletteCnn(temperature=1e-9)
        model.palette_K3.copy_(torch.rand(4, 3))
        colors = model.rgb(noise(1, 1, 32, 32)).permute(0, 2, 3, 1).reshape(-1, 3)
        assert torch.cdist(colors, model.palette_K3).amin(dim=1).max() < 1e-3

    def test_the_palette_is_saved_in_the_checkpoint(self, tmp_path: Path) -> None:
        model = PaletteCnn(colors=3)
        model.palette_K3.copy_(torch.rand(3, 3))
        (tmp_path / "p.safetensors").write_bytes(dump_checkpoint(model, name="palette_cnn", args={"colors": 3}))
        loaded = load_checkpoint(tmp_path / "p.safetensors").model
        assert isinstance(loaded, PaletteCnn)
        assert torch.equal(loaded.palette_K3, model.palette_K3)


class TestGan:
    def test_the_bottleneck_is_16_16_512_at_128_pixels(self) -> None:
        model, shapes = Gan().eval(), []
        model.down[-1].register_forward_hook(lambda *call: shapes.append(tuple(call[2].shape)))
        with torch.inference_mode():
            assert model(noise(1, 1, 128, 128)).shape == (1, 2, 128, 128)
        assert shapes == [(1, 512, 16, 16)]

    def test_each_layer_but_the_first_doubles_the_channels_and_is_normalized(self) -> None:
        model = Gan()
        assert [channels for channels, _, _ in convolutions(model)] == [64, 128, 256, 512, 2]
        assert [m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d)] == [128, 256, 512]
        assert not any(isinstance(m, POOLING) for m in model.modules())

    def test_skip_connections_add_encoder_features(self) -> None:
        """With a zero decoder, the output depends on the first layer's features only."""
        model, L = Gan(width=8).eval(), noise(1, 1, 16, 16)
        for parameter in model.up.parameters():
            nn.init.zeros_(parameter)
        with torch.inference_mode():
            expected = model.last(model.first(L / 100)).tanh() * 128
            torch.testing.assert_close(model(L), expected)

    @pytest.mark.parametrize("side", [16, 128])
    def test_the_discriminator_accepts_images_of_any_size(self, side: int) -> None:
        assert Discriminator(8)(torch.rand(3, 3, side, side)).shape == (3,)


def test_rgb_networks_return_the_chroma_of_their_output() -> None:
    """A colorized image that is grey has no color, whatever its lightness."""
    model = Dense()
    nn.init.zeros_(model.dense.weight)
    nn.init.zeros_(model.dense.bias)
    ab = model(grey_to_lightness(torch.rand(1, 1, 32, 32)))
    torch.testing.assert_close(ab, torch.zeros(1, 2, 32, 32), atol=0.02, rtol=0)
