"""One strip for each trained approach: grey, colored, original, of scikit-image's photographs.

    python scripts/strips.py palette_cnn=runs/palette_cnn lab_cnn=runs/lab_cnn

Each `NAME=RUN` becomes `docs/approaches/NAME.jpg`, colored as by `colorize photo --run RUN`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage import data

from colorize.imaging.compose import exact_rgb
from colorize.predict.model_files import find_model
from colorize.predict.opening import open_colorizer
from colorize.predict.settings import ColorizerSettings

SIDE = 160
FOLDER = Path(__file__).parents[1] / "docs" / "approaches"


def main() -> None:
    """Writes the strips named on the command line."""
    FOLDER.mkdir(exist_ok=True)
    for word in sys.argv[1:]:
        name, _, run = word.partition("=")
        strip(run).save(FOLDER / f"{name}.jpg", quality=88)


def strip(run: str) -> Image.Image:
    """Grey, colored and original of each photograph, side by side."""
    colorizer = open_colorizer(find_model(run).data, ColorizerSettings())
    panels = []
    for photograph in (data.astronaut(), data.coffee(), data.chelsea()):
        true = square(photograph)
        grey = np.asarray(Image.fromarray(true).convert("L"))
        colored = exact_rgb(grey, colorizer([grey])[0].astype(np.float32))
        panels += [np.stack([grey] * 3, axis=2), colored, true]
    return Image.fromarray(np.concatenate(panels, axis=1))


def square(photograph: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The center square, `(SIDE, SIDE, 3)`."""
    height, width = photograph.shape[:2]
    edge = min(height, width)
    left, top = (width - edge) // 2, (height - edge) // 2
    middle = Image.fromarray(photograph).crop((left, top, left + edge, top + edge))
    return np.asarray(middle.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


if __name__ == "__main__":
    main()
