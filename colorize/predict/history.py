"""`colorize photo --history`: one image colored with the checkpoint of each epoch of a training run."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from colorize.errors import UsageError
from colorize.imaging.compose import exact_rgb
from colorize.imaging.formats import decode_small
from colorize.imaging.sandbox import Sandbox
from colorize.predict.destinations import Destinations
from colorize.predict.fetch import fetch
from colorize.predict.inputs import Input
from colorize.predict.photo import photo_colorizer
from colorize.predict.settings import PhotoSettings
from colorize.storage.root import Storage

PANEL_AREA = 320 * 320
COLUMNS = 6
CAPTION = 24  # pixels, below each panel
CHECKPOINT = re.compile(r"checkpoints/epoch-(\d+)\.safetensors")


def write_history(
    given: Input, run: str, destinations: Destinations, settings: PhotoSettings, allow_private: bool, sandbox: Sandbox
) -> tuple[Path, str]:
    """Writes a sheet with the grey image and its copy by each epoch of `run`; returns its path and a description.

    Args:
        given: an image file or link.
        run: a training run's folder, local or S3.
        destinations: an output file, or a folder for `NAME.history.png`.
        settings: of the colorizer.
        allow_private: follow links to private addresses, too.
        sandbox: decodes the image.

    Raises:
        UsageError: `run` has no checkpoints.
        ImageDecodeError, OSError: the image cannot be read.
    """
    storage = Storage(run)
    epochs = checkpoint_epochs(storage)
    data = fetch(given, allow_private, settings.limits.max_bytes)
    grey = sandbox(decode_small, data, PANEL_AREA, max_pixels=settings.limits.max_pixels).luma
    target = destinations.sheet(given, ".history.png")
    panels = [("grey", np.stack([grey] * 3, axis=2))]
    panels += [(f"epoch {epoch}", image) for epoch, image in _colored(grey, storage, epochs, settings)]
    encoded = io.BytesIO()
    contact_sheet(panels).save(encoded, "PNG")
    folder, name = destinations.place(given, target)
    folder.write(name, encoded.getvalue())
    return target, f"{len(epochs)} epochs"


def checkpoint_epochs(run: Storage) -> dict[int, str]:
    """The file names of a run's checkpoints by epoch, in order.

    Raises:
        UsageError: there are none.
    """
    found = {int(m[1]): m[0] for entry in run.entries() if (m := CHECKPOINT.fullmatch(entry.name))}
    if not found:
        raise UsageError(f"{run.url()} has no checkpoints/epoch-NNN.safetensors: give a training run's folder")
    return dict(sorted(found.items()))


def _colored(
    grey: npt.NDArray[np.uint8], run: Storage, epochs: dict[int, str], settings: PhotoSettings
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    for epoch, name in epochs.items():
        colorizer = photo_colorizer(run.read(name), settings)
        yield epoch, exact_rgb(grey, colorizer([grey])[0].astype(np.float32)).astype(np.uint8)


def contact_sheet(panels: list[tuple[str, npt.NDArray[np.uint8]]]) -> Image.Image:
    """A grid of images of one size `(H, W, 3)`, each with its name below."""
    height, width = panels[0][1].shape[:2]
    columns = min(len(panels), COLUMNS)
    rows = math.ceil(len(panels) / columns)
    sheet = Image.new("RGB", (columns * width, rows * (height + CAPTION)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for number, (name, image) in enumerate(panels):
        left, top = number % columns * width, number // columns * (height + CAPTION)
        sheet.paste(Image.fromarray(image), (left, top))
        draw.text((left + width / 2, top + height + CAPTION / 2), name, "black", font, anchor="mm")
    return sheet
