"""Small grey images cut from real photographs, in several shapes and formats, all different."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

KINDS = (("jpg", (320, 240)), ("jpg", (240, 320)), ("png", (200, 200)), ("tif", (300, 160)))


def write_photographs(folder: Path, count: int, seed: int = 0) -> list[str]:
    """Writes `count` images below `folder`; returns their names."""
    from skimage import data

    photographs = (data.astronaut(), data.coffee(), data.rocket(), data.chelsea())
    sources = [Image.fromarray(photograph).convert("L") for photograph in photographs]
    random = np.random.default_rng(seed)
    names = []
    for number in range(count):
        suffix, size = KINDS[number % len(KINDS)]
        source = sources[int(random.integers(len(sources)))]
        side = int(random.integers(100, min(source.size)))
        left, top = (int(random.integers(0, full - side + 1)) for full in source.size)
        names.append(f"box {number % 7}/{number:05d}.{suffix}")
        path = folder / names[-1]
        path.parent.mkdir(parents=True, exist_ok=True)
        source.crop((left, top, left + side, top + side)).resize(size, Image.Resampling.BICUBIC).save(path)
    return names
