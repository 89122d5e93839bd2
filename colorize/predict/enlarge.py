"""`colorize photo --enlarge`: the own output of `superres_cnn`, an image three times as high and wide.

The network predicts the lightness, too, so the scan's luminance is not preserved.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from colorize.errors import UsageError, printable
from colorize.imaging.color import grey_to_lightness
from colorize.imaging.sandbox import Sandbox
from colorize.models.checkpoint import load_checkpoint
from colorize.models.superres_cnn import SuperresCnn
from colorize.predict.destinations import Destinations
from colorize.predict.fetch import fetch
from colorize.predict.inputs import Input, base_name
from colorize.predict.model_files import ModelFile, find_model
from colorize.predict.settings import PhotoSettings
from colorize.predict.steps import inspect

TILE, MARGIN = 256, 16  # pixels of the source; the margin is wider than the network's receptive field
Plane = npt.NDArray[np.uint8]


def write_enlarged(
    given: Input, model: str, destinations: Destinations, settings: PhotoSettings, allow_private: bool, sandbox: Sandbox
) -> tuple[Path, str]:
    """Writes an upright PNG of three times the input's size; returns its path and a description.

    Args:
        given: an image file or link.
        model: a trained `superres_cnn`: checkpoint or run.
        destinations: an output file, or a folder for `NAME.enlarged.png`.
        settings: `limits.max_pixels` applies to the output.
        allow_private: follow links to private addresses, too.
        sandbox: decodes the image.

    Raises:
        UsageError: the model is another network.
        ImageDecodeError, OSError: the image cannot be read, or would become too large.
    """
    found = find_model(model)
    network = load_checkpoint(found.data).model.eval()
    if not isinstance(network, SuperresCnn):
        raise UsageError(f"--enlarge: {found.name} is not a superres_cnn, the only network with larger output")
    data = fetch(given, allow_private, settings.limits.max_bytes)
    limit = settings.limits.max_pixels // network.enlarges**2
    inspection = sandbox(inspect, data, limit, limit)
    target = destinations.sheet(given, ".enlarged.png")
    encoded = io.BytesIO()
    text = PngInfo()
    text.add_text("Description", _sentence(found, base_name(given.source), inspection.sha256))
    Image.fromarray(enlarge(network, inspection.small.luma)).save(encoded, "PNG", pnginfo=text)
    folder, name = destinations.place(given, target)
    folder.write(name, encoded.getvalue())
    return target, "three times the size"


@torch.inference_mode()
def enlarge(network: SuperresCnn, grey: Plane) -> Plane:
    """Grey (H, W) -> sRGB (3 H, 3 W, 3), both uint8, tile by tile to bound the memory of activations."""
    height, width = grey.shape
    times = network.enlarges
    out = np.empty((times * height, times * width, 3), np.uint8)
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            y, x = max(top - MARGIN, 0), max(left - MARGIN, 0)
            tile = grey[y : top + TILE + MARGIN, x : left + TILE + MARGIN]
            L = grey_to_lightness(torch.from_numpy(tile[None, None].copy()).float() / 255)
            rgb = (network.enlarge(L)[0].permute(1, 2, 0) * 255).round().byte().numpy()
            inner = rgb[times * (top - y) :, times * (left - x) :][: times * TILE, : times * TILE]
            rows = slice(times * top, times * top + inner.shape[0])
            out[rows, times * left : times * left + inner.shape[1]] = inner
    return out


def _sentence(model: ModelFile, source: str, sha256: str) -> str:
    return (
        f"Colors and detail inferred by {Path(model.name).name} (sha256 {model.sha256}) from {printable(source)} "
        f"(sha256 {sha256}), three times its size; luminance not as scanned."
    )
