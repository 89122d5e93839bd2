"""CPU time of each stage of the bulk job for a JPEG, compared with a plain decode and encode.

    python -m benchmarks.stage_cost
    python -m benchmarks.stage_cost --image scan.jpg --rounds 9

The images are a photograph from scikit-image with added grain: 1 megapixel grey, the same stored as RGB (three
components in one scan), and 12 megapixels grey. It reports CPU time of one process and one thread, the minimum of
several rounds, because wall time is unreliable on a shared machine. The baseline is Pillow's (libjpeg-turbo's) decode
and encode of the same pixels at the same quality.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from skimage import data

from colorize.imaging.compose import compose
from colorize.imaging.formats import decode, decode_small, encode, read_info, sha256
from colorize.imaging.sandbox import Guarded
from colorize.imaging.settings import LimitSettings
from colorize.predict.colorizer import Colorizer
from colorize.predict.opening import open_colorizer
from colorize.predict.render import Provenance, render
from colorize.predict.settings import ColorizerSettings
from colorize.weights import shipped_weights

IMAGES = {
    "1 MP grey": ("L", (1152, 864)),
    "1 MP grey stored as RGB": ("RGB", (1152, 864)),
    "12 MP grey": ("L", (4000, 3000)),
}
MAX_PIXELS = 400_000_000
QUALITY = 90
PROVENANCE = Provenance("default", "", "scan.jpg", "")


def make(mode: str, size: tuple[int, int]) -> bytes:
    """A photograph with grain, the same in each channel, as a JPEG."""
    photograph = Image.fromarray(data.coffee()).convert("L").resize(size, Image.Resampling.BICUBIC)
    grain = np.random.default_rng(0).normal(0, 3, size[::-1])
    grey = Image.fromarray(np.clip(np.asarray(photograph) + grain, 0, 255).astype(np.uint8))
    out = io.BytesIO()
    grey.convert(mode).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def baseline(image: bytes) -> None:
    """A plain decode and encode."""
    with Image.open(io.BytesIO(image)) as pil_image:
        pil_image.load()
        pil_image.save(io.BytesIO(), "JPEG", quality=QUALITY)


def stages(image: bytes, colorizer: Colorizer) -> dict[str, Callable[[], object]]:
    """The timed functions by name; "load", "network" and "write" make up the whole job."""
    area = colorizer.size**2
    grey = decode_small(image, area, max_pixels=MAX_PIXELS).luma
    ab = colorizer.color([grey], confidence=True)[0].ab
    decoded = decode(image, max_pixels=MAX_PIXELS, halved=True)
    color = compose(decoded, ab)
    limited: Guarded[bytes, int] = Guarded(len, LimitSettings(), isolated=False)

    def load() -> None:
        sha256(image)
        decode_small(image, area, max_pixels=MAX_PIXELS)

    def write() -> None:
        sha256(render(image, ab, PROVENANCE, max_pixels=MAX_PIXELS).data)

    return {
        "baseline: decode and encode": lambda: baseline(image),
        "load": load,
        "network": lambda: colorizer.color([grey] * colorizer.batch_size, confidence=True),
        "write": write,
        "write: decode only": lambda: decode(image, max_pixels=MAX_PIXELS, halved=True),
        "write: compose only": lambda: compose(decoded, ab),
        "write: encode only": lambda: encode(decoded, color, PROVENANCE),
        "limits around a step": lambda: limited(image),
    }


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """Minimum CPU time of `rounds` calls, after one warm-up."""
    work()
    spent = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        spent.append(time.process_time() - started)
    return 1000 * min(spent)


def main(
    image: Annotated[Path | None, typer.Option(help="a JPEG of your own, instead of the generated ones")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 9,
) -> None:
    """Runs the benchmark and prints a Markdown table."""
    colorizer = open_colorizer(shipped_weights()["default"].read_bytes(), ColorizerSettings(), threads=1)
    chosen = {image.name: image.read_bytes()} if image else {n: make(*kind) for n, kind in IMAGES.items()}
    table = {}
    for name, encoded in chosen.items():
        found = {stage: milliseconds(work, rounds) for stage, work in stages(encoded, colorizer).items()}
        found["network"] /= colorizer.batch_size
        found["whole job"] = found["load"] + found["network"] + found["write"]
        table[name] = found
        info = read_info(encoded)
        print(f"{name}: {info.width} x {info.height}, {info.mode}, {len(encoded):,} bytes")
    print(f"\n| CPU ms per image | {' | '.join(table)} |\n| --- |{' ---: |' * len(table)}")
    for stage in next(iter(table.values())):
        print(f"| {stage} | {' | '.join(f'{found[stage]:.1f}' for found in table.values())} |")
    ratios = (found["whole job"] / found["baseline: decode and encode"] for found in table.values())
    print(f"| whole job / baseline | {' | '.join(f'{ratio:.1f}' for ratio in ratios)} |")


if __name__ == "__main__":
    typer.run(main)
