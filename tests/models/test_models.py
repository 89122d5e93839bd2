"""Tests of every registered network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from colorize.errors import UsageError
from colorize.models import BinModel, ColorModel, create_model, list_models
from colorize.models.checkpoint import dump_checkpoint, load_checkpoint
from colorize.predict.torch_network import torch_colorizer
from tests.small_models import SMALL_ARGS

SIDES = 2  # in strides


@pytest.fixture(scope="module", params=list_models())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(name: str) -> ColorModel:
    torch.manual_seed(0)
    return small(name).eval()


def small(name: str) -> ColorModel:
    return create_model(name, **SMALL_ARGS.get(name, {}))


def lightness(model: ColorModel, batch: int = 1, tall: int = SIDES, wide: int = SIDES) -> torch.Tensor:
    unit = max(model.stride, 16)
    if model.stride == model.canvas:
        tall = wide = 1  # its only size
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, 1, tall * unit, wide * unit, generator=generator) * 100


@pytest.mark.parametrize(("tall", "wide"), [(2, 2), (1, 4), (3, 2)])
def test_any_multiple_of_the_stride_keeps_its_shape(model: ColorModel, tall: int, wide: int) -> None:
    L = lightness(model, 2, tall, wide)
    with torch.inference_mode():
        ab = model(L)
    assert ab.shape[:2] == (2, 2)
    assert ab.shape[2] * L.shape[3] == ab.shape[3] * L.shape[2]
    assert ab.dtype == torch.float32


def test_colors_are_finite_and_within_lab(model: ColorModel) -> None:
    for level in (0.0, 50.0, 100.0):
        with torch.inference_mode():
            ab = model(torch.full_like(lightness(model), level))
        assert ab.isfinite().all()
        assert ab.abs().max() <= 128


@pytest.mark.slow
def test_bfloat16_arithmetic_still_gives_float32_colors(model: ColorModel) -> None:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert model(lightness(model)).dtype == torch.float32


def test_an_image_is_colored_the_same_in_any_batch(model: ColorModel) -> None:
    L = lightness(model, 3)
    with torch.inference_mode():
        torch.testing.assert_close(model(L)[1:2], model(L[1:2]), atol=1e-2, rtol=1e-3)


def test_every_parameter_gets_a_gradient(name: str) -> None:
    model = small(name)
    model(lightness(model, 2)).square().mean().backward()
    silent = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert silent == []


def test_checkpoint_rebuilds_it(name: str, model: ColorModel, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(dump_checkpoint(model, name=name, args=SMALL_ARGS.get(name, {})))
    loaded = load_checkpoint(tmp_path / "m.safetensors").model
    with torch.inference_mode():
        torch.testing.assert_close(loaded(lightness(model)), model(lightness(model)), atol=0, rtol=0)


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (331, 250)])
def test_images_of_any_size_are_colored_through_the_colorizer(model: ColorModel, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with seen_by(model) as areas:
        (ab,) = torch_colorizer(model, size=96, precision="float32")([image])
    assert ab.ndim == 3
    assert np.isfinite(ab).all()
    assert areas == [pytest.approx((model.canvas or 96) ** 2, rel=0.4)]


@contextmanager
def seen_by(model: ColorModel) -> Iterator[list[int]]:
    """Records the areas of the network's inputs."""
    areas: list[int] = []
    hook = model.register_forward_pre_hook(lambda _, args: areas.append(args[0].shape[2] * args[0].shape[3]))
    yield areas
    hook.remove()


def test_bins_decode_to_colors_between_them(model: ColorModel) -> None:
    if not isinstance(model, BinModel):
        pytest.skip("predicts no bins")
    certain = torch.full((1, len(model.bins_Q2), 1, 1), -1e4)
    certain[0, 7] = 1e4
    torch.testing.assert_close(model.decode(certain)[0, :, 0, 0], model.bins_Q2[7])


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'unet'"):
        create_model("unett")


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(UsageError, match="no_such_thing"):
        create_model("unet", no_such_thing=1)


@pytest.mark.parametrize("name", ["lab_cnn", "unet"])
def test_an_invalid_argument_value_is_named(name: str) -> None:
    with pytest.raises(UsageError, match=rf"model '{name}' with widths=\[64, 128\]: "):
        create_model(name, widths=[64, 128])
