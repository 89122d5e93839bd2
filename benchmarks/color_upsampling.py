"""Upsampling of low-resolution color: nearest, bilinear, bicubic, guided, joint bilateral, and ours.

    python -m benchmarks.color_upsampling
    python -m benchmarks.color_upsampling --sweep
    python -m benchmarks.color_upsampling --images photographs/ --cells 64 --cells 128 --cells 256 --cells 512
    python -m benchmarks.color_upsampling --figure docs/upsampling.jpg

The ground truth color of photographs is averaged to grids of about N x N cells ("what a perfect network would give")
and upsampled; another column uses the shipped model's prediction. Two metrics each: PSNR of ab (peak 220) over all
pixels, and near edges, that is, within 4 pixels of the 5 % of pixels with the largest Lab gradient (Gaussian, sigma
1). The photographs are scikit-image's and scikit-learn's; `--images` takes a folder of others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, TypeAlias

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage import data
from skimage.color import lab2rgb, rgb2lab

import colorize.imaging.upsample

Float: TypeAlias = NDArray[np.float32]
Grey: TypeAlias = NDArray[np.uint8]
Method: TypeAlias = Callable[[Float, Grey], Float]  # ab (2, h, w), luma (H, W) -> ab (2, H, W)

CELLS = (16, 32, 64, 128, 256)  # the square root of a grid's number of cells; small photographs have no more
NEAR = 4  # pixels
STRONG = 95  # percentile
AB_PEAK = 220.0


@dataclass(frozen=True)
class Scene:
    """A color photograph: its luma, ground truth ab (2, H, W), an edge mask, and the model's prediction."""

    luma: Grey
    ab: Float
    edges: NDArray[np.bool_]

    def grid(self, cells: int) -> tuple[int, int]:
        """The sides of a grid of about cells x cells with the image's aspect."""
        height, width = self.luma.shape
        scale = cells / (height * width) ** 0.5
        return max(1, round(height * scale)), max(1, round(width * scale))


def scene(rgb: Grey) -> Scene:
    lab = rgb2lab(rgb).astype(np.float32)
    strength = np.linalg.norm([ndimage.gaussian_gradient_magnitude(lab[..., c], 1) for c in range(3)], axis=0)
    edges = ndimage.binary_dilation(strength > np.percentile(strength, STRONG), iterations=NEAR)
    luma = np.asarray(Image.fromarray(rgb).convert("L"))
    return Scene(luma, np.ascontiguousarray(lab[..., 1:].transpose(2, 0, 1)), edges)


def nearest(ab: Float, luma: Grey) -> Float:
    return _resized(ab, luma.shape, Image.Resampling.NEAREST)


def bilinear(ab: Float, luma: Grey) -> Float:
    return _resized(ab, luma.shape, Image.Resampling.BILINEAR)


def bicubic(ab: Float, luma: Grey) -> Float:
    return _resized(ab, luma.shape, Image.Resampling.BICUBIC)


def reduced(ab: Float, shape: tuple[int, ...]) -> Float:
    """The means over the cells of a grid."""
    return _resized(ab, shape, Image.Resampling.BOX)


def guided(ab: Float, luma: Grey, radius: int = 1, eps: float = 0.001) -> Float:
    """Fast guided filter (He and Sun, 2015): coefficients on the grid, upsampled bilinearly."""
    full = _unit(luma)
    grey = reduced(full[None], ab.shape[1:])[0]
    mean, mean_ab = _box(grey[None], radius)[0], _box(ab, radius)
    variance = _box((grey * grey)[None], radius)[0] - mean * mean
    slope = (_box(ab * grey, radius) - mean_ab * mean) / (variance + eps)
    offset = mean_ab - slope * mean
    color: Float = bilinear(_box(slope, radius), luma) * full + bilinear(_box(offset, radius), luma)
    return color


def joint_bilateral(ab: Float, luma: Grey, spatial: float = 0.5, tonal: float = 0.05, radius: int = 2) -> Float:
    """Joint bilateral upsampling (Kopf, Cohen, Lischinski and Uyttendaele, 2007): spatial in cells, range in luma."""
    full = _unit(luma)
    grey = reduced(full[None], ab.shape[1:])[0]
    (row, near_row), (column, near_column) = (_cells(n, m) for n, m in zip(luma.shape, grey.shape, strict=True))
    total, weights = np.zeros((2, *luma.shape), np.float32), np.zeros(luma.shape, np.float32)
    for down, across in product(range(-radius, radius + 1), repeat=2):
        y, x = near_row + down, near_column + across
        apart = (y - row)[:, None] ** 2 + (x - column)[None] ** 2
        cell = np.clip(y, 0, grey.shape[0] - 1)[:, None], np.clip(x, 0, grey.shape[1] - 1)[None]
        place = np.exp(-apart / (2 * spatial**2)).astype(np.float32)
        weight = place * (np.exp(-((full - grey[cell]) ** 2) / np.float32(2 * tonal**2)) + np.float32(1e-8))
        total += weight * ab[:, cell[0], cell[1]]
        weights += weight
    return np.asarray(total / weights, np.float32)


def ours(ab: Float, luma: Grey) -> Float:
    """`colorize.imaging.upsample`."""
    color = colorize.imaging.upsample.guided_color(ab, luma)
    strips = [slice(top, min(top + 64, len(luma))) for top in range(0, len(luma), 64)]
    return np.concatenate([color.rows(rows, _unit(luma[rows])) for rows in strips], axis=1)


METHODS: Mapping[str, Method] = {
    "nearest": nearest,
    "bilinear": bilinear,
    "bicubic": bicubic,
    "guided filter": guided,
    "joint bilateral": joint_bilateral,
    "ours": ours,
}


def psnr(error: Float) -> float:
    """PSNR of ab in dB, peak 220."""
    return float(10 * np.log10(AB_PEAK**2 / max(float(np.mean(np.square(error, dtype=np.float64))), 1e-12)))


def photographs(folder: Path | None) -> dict[str, Grey]:
    """Photographs by name, RGB (H, W, 3)."""
    if folder is not None:
        return {path.name: np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.iterdir())}
    from sklearn.datasets import load_sample_images

    found = {name: getattr(data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
    found["motorcycle"] = np.asarray(Image.open(Path(data.__file__).parent / "motorcycle_left.png").convert("RGB"))
    found["china"], found["flower"] = load_sample_images().images
    return found


def predictions(scenes: Mapping[str, Scene]) -> dict[str, Float]:
    """The shipped model's ab for each photograph."""
    from colorize.predict.model_files import find_model
    from colorize.predict.opening import open_colorizer
    from colorize.predict.settings import ColorizerSettings

    colorizer = open_colorizer(find_model("default").data, ColorizerSettings())
    colors = colorizer([scene.luma for scene in scenes.values()])
    return {name: ab.astype(np.float32) for name, ab in zip(scenes, colors, strict=True)}


def measured(method: Method, scenes: Mapping[str, Scene], lows: Mapping[str, Float]) -> tuple[float, float, float]:
    """Mean PSNR overall and near edges, in dB, and CPU milliseconds per megapixel."""
    whole, near, seconds, pixels = [], [], 0.0, 0
    for name, image in scenes.items():
        started = time.process_time()
        error = method(lows[name], image.luma) - image.ab
        seconds += time.process_time() - started
        pixels += image.luma.size
        whole.append(psnr(error))
        near.append(psnr(error[:, image.edges]))
    return float(np.mean(whole)), float(np.mean(near)), seconds / pixels * 1e9


def table(methods: Mapping[str, Method], scenes: Mapping[str, Scene], cells: Sequence[int]) -> Iterator[str]:
    """Markdown rows, with a column for each grid and one for the model's prediction."""
    inputs = {str(n): {k: reduced(s.ab, s.grid(n)) for k, s in scenes.items()} for n in cells}
    inputs["`default`"] = predictions(scenes)
    yield "| | " + " | ".join(inputs) + " | ms/MP |"
    yield "| --- |" + " --- |" * (len(inputs) + 1)
    for name, method in methods.items():
        results = [measured(method, scenes, lows) for lows in inputs.values()]
        figures = [f"{whole:.2f} / {near:.2f}" for whole, near, _ in results]
        yield f"| {name} | {' | '.join(figures)} | {np.mean([r[2] for r in results]):.0f} |"


def swept() -> dict[str, Method]:
    """The parameters of every method, and ours."""
    found: dict[str, Method] = {}
    for radius, eps in product((1, 2), (0.001, 0.003, 0.01)):
        found[f"guided filter, radius {radius}, eps {eps}"] = partial(guided, radius=radius, eps=eps)
    for spatial, tonal in product((0.5, 0.7, 1.0), (0.05, 0.1, 0.2)):
        name = f"joint bilateral, {spatial} cells, {tonal} luma"
        found[name] = partial(joint_bilateral, spatial=spatial, tonal=tonal)
    for luma, color in product((0.001, 0.003, 0.01, 0.03), (0.1, 1.0, 20.0)):
        name = f"ours, luma variance {luma}, ab variance {color}"
        found[name] = partial(_ours_with, luma_variance=luma, ab_variance=color)
    return found


def _ours_with(ab: Float, luma: Grey, luma_variance: float, ab_variance: float) -> Float:
    before = colorize.imaging.upsample.LUMA_VARIANCE, colorize.imaging.upsample.AB_VARIANCE
    colorize.imaging.upsample.LUMA_VARIANCE, colorize.imaging.upsample.AB_VARIANCE = luma_variance, ab_variance
    try:
        return ours(ab, luma)
    finally:
        colorize.imaging.upsample.LUMA_VARIANCE, colorize.imaging.upsample.AB_VARIANCE = before


def figure(path: Path) -> None:
    """Crops of scikit-image's photographs: ground truth; its 32 x 32 means by bilinear, joint bilateral, and ours."""
    rows = []
    for name, (left, top) in {"astronaut": (130, 190), "coffee": (330, 180), "chelsea": (150, 60)}.items():
        image = scene(getattr(data, name)())
        low = reduced(image.ab, image.grid(32))
        colors = (image.ab, bilinear(low, image.luma), joint_bilateral(low, image.luma), ours(low, image.luma))
        rows.append(
            np.hstack(
                [_shown(image, ab)[top : top + 120, left : left + 120].repeat(2, 0).repeat(2, 1) for ab in colors]
            )
        )
    Image.fromarray(np.vstack(rows)).save(path, quality=88)


def _shown(image: Scene, ab: Float) -> Grey:
    """RGB with the L* of the original."""
    lightness = rgb2lab(np.repeat(image.luma[..., None], 3, axis=2))[..., 0]
    rgb: Grey = np.rint(lab2rgb(np.dstack((lightness, *ab))) * 255).astype(np.uint8)
    return rgb


def _unit(luma: Grey) -> Float:
    return luma.astype(np.float32) / np.float32(255)


def _resized(planes: Float, shape: tuple[int, ...], how: Image.Resampling) -> Float:
    return np.stack([np.asarray(Image.fromarray(plane).resize((shape[1], shape[0]), how)) for plane in planes])


def _box(planes: Float, radius: int) -> Float:
    return np.stack([ndimage.uniform_filter(plane, 2 * radius + 1, mode="nearest") for plane in planes])


def _cells(pixels: int, cells: int) -> tuple[Float, NDArray[np.intp]]:
    """Pixel positions in units of cells, and the nearest cell of each."""
    place = ((np.arange(pixels) + 0.5) * cells / pixels - 0.5).astype(np.float32)
    return place, np.rint(place).astype(np.intp)


def main(
    sweep: Annotated[bool, typer.Option(help="every method with several parameters")] = False,
    images: Annotated[Path | None, typer.Option(help="a folder of color photographs")] = None,
    cells: Annotated[list[int], typer.Option(help="the square root of a grid's number of cells")] = list(CELLS),  # noqa: B006
    figure_path: Annotated[Path | None, typer.Option("--figure", help="write the figure to this file instead")] = None,
) -> None:
    """Runs the benchmark and prints a Markdown table."""
    if figure_path is not None:
        figure(figure_path)
        return
    scenes = {name: scene(rgb) for name, rgb in photographs(images).items()}
    for line in table(swept() if sweep else METHODS, scenes, cells):
        print(line, flush=True)


if __name__ == "__main__":
    typer.run(main)
