"""The original pipelines of published networks, against the libraries that they use."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import lab2rgb, rgb2lab
from torch.nn import functional as F

from colorize.cli import EXIT_USAGE, run
from colorize.imaging.color import lightness_to_grey
from colorize.imaging.formats import Provenance, decode
from colorize.models import ColorModel, create_model
from colorize.models.checkpoint import dump_checkpoint, load_checkpoint
from colorize.predict.render import render
from colorize.predict.upstream import upstream_of
from tests.small_models import SMALL_ARGS

SIDES = {"eccv16": 256, "siggraph17": 256, "ddcolor_tiny": 512}


def checkpoint(name: str, folder: Path) -> Path:
    """A small network with saturated colors that vary across the image."""
    torch.manual_seed(0)
    network = create_model(name, **SMALL_ARGS[name])
    for key, value in network.state_dict().items():
        if key in ("model8.6.weight", "model_out.0.weight", "refine_net.0.0.weight"):
            value.mul_(30)
    (folder / f"{name}.safetensors").write_bytes(dump_checkpoint(network, name=name, args=SMALL_ARGS[name]))
    return folder / f"{name}.safetensors"


def as_their_programs_do(name: str, network: ColorModel, image: Image.Image) -> np.ndarray:
    """Pillow or bilinear interpolation of four pixels, scikit-image's Lab, torch's interpolation."""
    rgb, side = np.asarray(image.convert("RGB")), SIDES[name]
    if name == "ddcolor_tiny":
        small = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float()
        square = F.interpolate(small, (side, side), mode="bilinear")[0].permute(1, 2, 0).numpy() / 255
    else:
        square = np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)) / 255
    L = torch.from_numpy(rgb2lab(square)[:, :, 0]).float()[None, None]
    with torch.inference_mode():
        ab = network(lightness_to_grey(L).repeat(1, 3, 1, 1) if name == "ddcolor_tiny" else L)
    how = "nearest" if name == "ddcolor_tiny" else "bilinear"
    ab = F.interpolate(ab, rgb.shape[:2], mode=how)[0].permute(1, 2, 0).numpy()
    lab = np.concatenate((rgb2lab(rgb)[:, :, :1], ab), axis=2)
    expected: np.ndarray = np.rint(lab2rgb(lab).clip(0, 1) * 255)
    return expected


@pytest.mark.slow
@pytest.mark.parametrize("name", SIDES)
def test_outputs_match_the_original_programs(name: str, astronaut: Image.Image, tmp_path: Path) -> None:
    model = checkpoint(name, tmp_path)
    scan = astronaut.convert("L").resize((700, 530))
    scan.save(tmp_path / "scan.png")
    words = ["--model", str(model), "--set", "output.processing=upstream", "--set", "colorizer.precision=float32"]
    assert run(["photo", str(tmp_path / "scan.png"), "-o", str(tmp_path / "out.png"), *words]) == 0

    expected = as_their_programs_do(name, load_checkpoint(model).model, scan)
    ours = np.asarray(Image.open(tmp_path / "out.png")).astype(float)
    assert np.ptp(expected, axis=2).max() > 20, "the network gives hardly any color"
    assert np.abs(ours - expected).mean() < 0.5
    assert np.quantile(np.abs(ours - expected), 0.999) <= 3


def test_the_copy_is_marked_as_not_luma_exact(astronaut: Image.Image) -> None:
    upstream = upstream_of("upstream", "siggraph17")
    strong = np.full((2, 8, 8), 70, np.float32)
    for format in ("PNG", "JPEG"):
        encoded = io.BytesIO()
        astronaut.convert("L").save(encoded, format)
        copy = render(encoded.getvalue(), strong, Provenance("m", "0", "s", "0"), max_pixels=10**7, upstream=upstream)
        assert not copy.luma_exact
        grey = np.asarray(Image.open(io.BytesIO(copy.data)).convert("L")).astype(int)
        assert np.abs(grey - decode(encoded.getvalue(), max_pixels=10**7).luma).max() > 2
        colors = np.asarray(Image.open(io.BytesIO(copy.data)).convert("RGB")).astype(int)
        assert (colors[..., 0] - colors[..., 2]).max() > 60


def test_a_network_without_published_weights_has_no_original_pipeline(
    tmp_path: Path, astronaut: Image.Image, capsys: pytest.CaptureFixture[str]
) -> None:
    astronaut.save(tmp_path / "a.png")
    words = ["photo", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--set", "output.processing=upstream"]
    assert run(words) == EXIT_USAGE
    assert "output.processing=upstream: only for eccv16, siggraph17, " in capsys.readouterr().err
