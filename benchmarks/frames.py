"""Black-and-white photographs with a colored object in the frame: beside the print on the scanner, or on the print."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Random: TypeAlias = np.random.Generator
Print: TypeAlias = Callable[[Image.Image, Random], Image.Image]
Ink: TypeAlias = tuple[int, int, int]

INKS: tuple[Ink, ...] = ((200, 30, 40), (30, 60, 170), (20, 120, 60), (120, 30, 130), (220, 120, 20))
PATCHES: tuple[Ink, ...] = (
    (115, 82, 68), (194, 150, 130), (98, 122, 157), (87, 108, 67), (133, 128, 177), (103, 189, 170), (214, 126, 44),
    (80, 91, 166), (193, 90, 99), (94, 60, 108), (157, 188, 64), (224, 163, 46), (56, 61, 150), (70, 148, 73),
    (175, 54, 60), (231, 199, 31), (187, 86, 149), (8, 133, 161),
)  # fmt: skip
MOUNTS: tuple[Ink, ...] = (
    (120, 140, 110),
    (150, 60, 50),
    (205, 190, 150),
    (60, 80, 120),
    (235, 225, 200),
    (90, 70, 55),
)


def grey(photograph: Image.Image, random: Random) -> Image.Image:
    """A neutral print."""
    return photograph.convert("L").convert("RGB")


def sepia(photograph: Image.Image, random: Random) -> Image.Image:
    """A print with a uniform tone of any hue."""
    levels = np.asarray(photograph.convert("L"), np.float32)[..., None] / 255
    dark, light = np.array([40, 20, 5]) * random.uniform(0.3, 1.3, 3), np.array([255, 240, 205])
    return _image(dark + (light * random.uniform(0.85, 1, 3) - dark) * levels)


def stamp(image: Image.Image, random: Random) -> Image.Image:
    """A rubber stamp or a sticker of 0.2 to 2 % of the area, anywhere."""
    width, height = image.size
    size = math.sqrt(random.uniform(0.002, 0.02) * width * height)
    box = _box_within(image, random, size * random.uniform(0.7, 1.8), size)
    draw = ImageDraw.Draw(image)
    if random.random() < 0.5:
        draw.rectangle(box, fill=_ink(random))
    else:
        draw.ellipse(box, outline=_ink(random), width=max(2, round(size / 8)))
    return image


def crop_marks(image: Image.Image, random: Random) -> Image.Image:
    """An editor's lines in red or blue, across the image and in its corners."""
    draw, ink, (width, height) = ImageDraw.Draw(image), _ink(random), image.size
    thick = max(1, round(min(image.size) * random.uniform(0.004, 0.012)))
    left, right = sorted(random.uniform(0.02, 0.98, 2) * width)
    top, bottom = sorted(random.uniform(0.02, 0.98, 2) * height)
    draw.rectangle((left, top, right, bottom), outline=ink, width=thick)
    for x, y in ((0, 0), (width, 0), (0, height), (width, height)):
        reach = 0.08 * min(image.size)
        draw.line((x - reach, y, x + reach, y), ink, 2 * thick)
        draw.line((x, y - reach, x, y + reach), ink, 2 * thick)
    return image


def strip(image: Image.Image, random: Random) -> Image.Image:
    """A color target along one side, covering 4 to 14 % of the scan."""
    turned = random.random() < 0.5
    scan = image.transpose(Image.Transpose.ROTATE_90) if turned else image
    width, band = scan.width, round(scan.height * random.uniform(0.05, 0.16))
    wide = Image.new("RGB", (width, scan.height + band), (40, 40, 40))
    wide.paste(scan, (0, 0))
    draw, side = ImageDraw.Draw(wide), width / 12
    for i in range(12):
        patch = PATCHES[int(random.integers(len(PATCHES)))]
        draw.rectangle((i * side, scan.height + 0.1 * band, (i + 0.9) * side, scan.height + 0.9 * band), fill=patch)
    return wide.transpose(Image.Transpose.ROTATE_270) if turned else wide


def foxing(image: Image.Image, random: Random) -> Image.Image:
    """Brown spots with soft edges, up to 8 % of the area."""
    mask = Image.new("L", image.size)
    draw, short = ImageDraw.Draw(mask), min(image.size)
    for _ in range(int(random.integers(10, 60))):
        radius = short * random.uniform(0.004, 0.03)
        x, y = random.uniform(0, 1, 2) * image.size
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=int(random.integers(60, 190)))
    mask = mask.filter(ImageFilter.GaussianBlur(short * 0.006))
    return Image.composite(Image.new("RGB", image.size, (150, 95, 45)), image, mask)


def watermark(image: Image.Image, random: Random) -> Image.Image:
    """A site's name across the image, semi-transparent."""
    mask, text = Image.new("L", image.size), "archive.example"
    size = image.width / len(text) * random.uniform(0.8, 1.7)
    place = random.uniform(0, 0.2) * image.width, random.uniform(0.1, 0.8) * image.height
    ImageDraw.Draw(mask).text(place, text, int(random.integers(60, 200)), ImageFont.load_default(max(size, 8)))
    return Image.composite(Image.new("RGB", image.size, _ink(random)), image, mask)


def mount(image: Image.Image, random: Random) -> Image.Image:
    """On a card of another color, whose rim covers 15 to 45 % of the scan."""
    share = random.uniform(0.15, 0.45)
    factor = 1 / math.sqrt(1 - share)
    width, height = (round(side * factor) for side in image.size)
    card = Image.new("RGB", (width, height), MOUNTS[int(random.integers(len(MOUNTS)))])
    spare = width - image.width, height - image.height
    card.paste(image, (spare[0] // 2, round(spare[1] * random.uniform(0.35, 0.5))))
    return card


THINGS: Mapping[str, Callable[[Image.Image, Random], Image.Image]] = {
    "stamp": stamp,
    "crop marks": crop_marks,
    "color target": strip,
    "foxing": foxing,
    "watermark": watermark,
    "mount": mount,
}


TONES: Mapping[str, Print] = {"grey_as_rgb": grey, "toned": sepia}


def framed(tone: Print, thing: Callable[[Image.Image, Random], Image.Image]) -> Print:
    """A generator of toned prints with the object in the frame."""
    return lambda photograph, random: thing(tone(photograph, random), random)


FRAMED: Mapping[str, Print] = {
    f"{kind}, {name}": framed(tone, thing) for kind, tone in TONES.items() for name, thing in THINGS.items()
}


def _box_within(image: Image.Image, random: Random, width: float, height: float) -> tuple[float, float, float, float]:
    left = random.uniform(0, max(1.0, image.width - width))
    top = random.uniform(0, max(1.0, image.height - height))
    return left, top, left + width, top + height


def _ink(random: Random) -> Ink:
    return INKS[int(random.integers(len(INKS)))]


def _image(levels: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))
