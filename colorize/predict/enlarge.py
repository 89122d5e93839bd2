"""`colorize photo --enlarge`: what `superres_cnn` was made for, an image three times as high and wide.

Here the network paints everything, the lightness too, so that nothing of the scan is kept as it was.
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
from colorize.predict.steps import look

TILE, MARGIN = 256, 16  # pixels of the source; the margin is wider than what an output pixel depends on
Plane = npt.NDArray[np.uint8]


def write_enlarged(
    given: Input, model: str, destinations: Destinations, settings: PhotoSettings, allow_private: bool, sandbox: Sandbox
) -> tuple[Path, str]:
    """Writes a PNG, upright, three times the size of the input; returns where, and a word about it.

    Args:
        given: an image file or link.
        model: a trained `superres_cnn`: checkpoint or run.
        destinations: an output file, or a folder for `NAME.enlarged.png`.
        settings: `limits.max_pixels` holds for what is written.
        allow_private: follow links to private addresses, too.
        sandbox: where the image is decoded.

    Raises:
        UsageError: the model is another network.
        ImageDecodeError, OSError: the image cannot be read, or would become too large.
    """
    found = find_model(model)
    network = load_checkpoint(found.data).model.eval()
    if not isinstance(network, SuperresCnn):
        raise UsageError(f"--enlarge: {found.name} is no superres_cnn, which alone paints larger images")
    data = fetch(given, allow_private, settings.limits.max_bytes)
    limit = settings.limits.max_pixels // network.enlarges**2
    seen = sandbox(look, data, limit, limit)
    target = destinations.sheet(given, ".enlarged.png")
    encoded = io.BytesIO()
    text = PngInfo()
    text.add_text("Description", _sentence(found, base_name(given.source), seen.sha256))
    Image.fromarray(enlarge(network, seen.small.luma)).save(encoded, "PNG", pnginfo=text)
    folder, name = destinations.place(given, target)
    folder.write(name, encoded.getvalue())
    return target, "three times the size"


@torch.inference_mode()
def enlarge(network: SuperresCnn, grey: Plane) -> Plane:
    """Grey (H, W) -> sRGB (3 H, 3 W, 3), tile by tile: memory does not grow with the network's channels."""
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
