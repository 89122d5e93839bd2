"""Files made to harm, through every command that reads images: does each keep to its limits, and are good ones done?

    python -m benchmarks.hostile_corpus --mutations 10 --seconds 20 --memory-mb 512 [--commands photo restore-grey ...]

The corpus holds, of every format, damaged copies (bytes changed, cut, repeated, lengths made huge) and bombs: files
that claim, or would unfold to, far more than they hold. Beside them lie good pictures. Each command must color,
restore or measure all the good ones, name each of the others in one line or row, and keep every one of its processes
below `limits.memory_mb` plus BASE_MB and every image below `limits.seconds` plus SPARE_SECONDS. The exit status is 1
where one does not.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
from PIL import Image, ImageCms

from tests import bombs

BASE_MB = 1500  # of a process without any image: Python, torch, the network, Ray
SPARE_SECONDS = 5.0
FORMATS = ("PNG", "TIFF", "JPEG", "JPEG2000", "WEBP", "AVIF", "GIF", "BMP")
COMMANDS = ("photo", "restore-grey", "bulk", "evaluate", "report")
GOOD = "good-"


@dataclass(frozen=True)
class Watched:
    """How a command went: its exit status, what it said, and what its processes took at most."""

    status: int
    lines: list[str]
    longest: float  # seconds between two lines
    peak_mb: int
    seconds: float


def seeds() -> dict[str, bytes]:
    """A small color photograph in every format, with EXIF, a profile and XMP where it takes them."""
    noise = np.random.default_rng(0).integers(0, 40, (96, 128, 3))
    ramp = np.linspace(0, 200, 128)[None, :, None] * np.array([1, 0.8, 0.5])
    image = Image.fromarray(np.uint8(np.clip(noise + ramp, 0, 255)))
    exif = Image.Exif()
    exif[0x010E] = "a scan"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = {}
    for format in FORMATS:
        out = io.BytesIO()
        image.save(out, format, **({} if format in ("GIF", "BMP") else {"exif": exif, "icc_profile": profile}))
        found[format.lower()] = out.getvalue()
    return found


def mutations(data: bytes, count: int, chance: random.Random) -> Iterator[bytes]:
    """Damaged copies: bytes changed, the end cut off, a part repeated, four bytes made the largest number."""
    for number in range(count):
        changed, place = bytearray(data), chance.randrange(len(data))
        if number % 4 == 0:
            for _ in range(chance.randint(1, 40)):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
        elif number % 4 == 1:
            del changed[max(16, place) :]
        elif number % 4 == 2:
            changed[place:place] = changed[place : place + chance.randint(1, 4096)] * chance.randint(1, 50)
        else:
            start = chance.randrange(min(len(data), 2048))
            changed[start : start + 4] = b"\xff\xff\xff\xff"
        yield bytes(changed)


def all_bombs() -> dict[str, bytes]:
    """Files that claim, or would unfold to, far more than they hold."""
    xmp = b"http://ns.adobe.com/xap/1.0/\0"
    deep = bombs.xmp("<n:a>" * 6000 + "</n:a>" * 6000)
    icc = b"ICC_PROFILE\0\1\1" + bombs.profile_of_overlapping_tags(60_000)
    side = 30_000
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = bombs.png_chunk(b"IDAT", bombs.zeros(64 << 20))
    return {
        "pixels.png": b"\x89PNG\r\n\x1a\n" + bombs.png_chunk(b"IHDR", header) + pixels,
        "profile.png": bombs.png(bombs.png_chunk(b"iCCP", b"p\0\0" + bombs.zeros(1 << 30)), bits=16),
        "text.png": bombs.png(bombs.png_chunk(b"zTXt", b"t\0\0" + bombs.zeros(1 << 30))),
        "chunks.png": bombs.png(bombs.png_chunk(b"tEXt", b"a\0b") * 200_000),
        "xmp.png": bombs.png(bombs.png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(deep))),
        "pages.tif": bombs.tiff_of_many_directories(24_000),
        "tags.tif": bombs.tiff_of_overlapping_tags(2700, 336_000),
        "nested.tif": bombs.tiff_of_nested_directories(8000),
        "segments.jpg": bombs.jpeg(*[(0xFE, b"")] * 200_000),
        "exif.jpg": bombs.jpeg((0xE1, bombs.exif_of_nested_directories(5000))),
        "xmp.jpg": bombs.jpeg((0xE1, xmp + deep[:60_000])),
        "entities.jpg": bombs.jpeg((0xE1, xmp + bombs.xmp("<n:a>&e;</n:a>", "utf-16", bombs.entities(9)))),
        "profile.jpg": bombs.jpeg((0xE2, icc)),
        "scans.jpg": _jpeg_of_many_scans(3000),
        "pixels.jpg": _progressive_giant(),
        "boxes.jp2": bombs.jp2(struct.pack(">I4s", 8, b"free") * 200_000),
        "pixels.gif": b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0xF0, 0, 0) + bytes(6) + b",",
        "pixels.webp": _saved(Image.new("L", (16_383, 16_383)), "WEBP", lossless=True),
        "pixels.avif": _saved(Image.new("L", (8192, 8192)), "AVIF", speed=10),
        "pixels.bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 0, 0, 54, 40, 30_000, 30_000, 1, 24, 0, 0, 0, 0, 0, 0),
    }


def corpus(folder: Path, count: int) -> tuple[set[str], set[str]]:
    """Writes the files; returns the names of the good ones and of all others."""
    chance, good, bad = random.Random(0), set[str](), set[str]()
    for format, data in seeds().items():
        good.add(f"{GOOD}{format}")
        (folder / f"{GOOD}{format}").write_bytes(data)
        for number, changed in enumerate(mutations(data, count, chance)):
            bad.add(f"{format}-{number:03d}")
            (folder / f"{format}-{number:03d}").write_bytes(changed)
    for name, data in all_bombs().items():
        bad.add(f"bomb-{name}")
        (folder / f"bomb-{name}").write_bytes(data)
    with (folder / "bomb-sparse.tif").open("wb") as file:
        file.write(b"II*\0")
        file.truncate(7 << 40)
    return good, bad | {"bomb-sparse.tif"}


def watch(words: list[str], environment: Mapping[str, str]) -> Watched:
    """Runs a command and looks at the memory of all its processes, ten times a second."""
    started = last = time.monotonic()
    longest, peak, seen = 0.0, 0, 0
    with tempfile.TemporaryFile("w+") as out:
        process = psutil.Popen(words, stdout=out, stderr=subprocess.STDOUT, env=dict(environment))
        while process.poll() is None:
            peak = max(peak, *(_resident(each) for each in [process, *process.children(recursive=True)]))
            if (size := os.fstat(out.fileno()).st_size) != seen:
                longest, last, seen = max(longest, time.monotonic() - last), time.monotonic(), size
            time.sleep(0.1)
        out.seek(0)
        lines = out.read().splitlines()
    return Watched(process.returncode, lines, longest, peak >> 20, time.monotonic() - started)


def faults(
    command: str, done: Watched, good: set[str], bad: set[str], folder: Path, limits: argparse.Namespace
) -> list[str]:
    """What a command did not keep to."""
    found = []
    if done.peak_mb > limits.memory_mb + BASE_MB:
        found.append(f"a process of {done.peak_mb} MB")
    if any("Traceback" in line for line in done.lines) or done.status not in (0, 3):
        found.append(f"status {done.status}: {done.lines[-1:]}")
    if command in ("photo", "restore-grey") and done.longest > 3 * limits.seconds + SPARE_SECONDS:
        found.append(f"an image of {done.longest:.0f} s")  # two or three steps, each with limits of its own
    if command in ("photo", "restore-grey"):
        found += _unsaid(done, good, bad)
    if command == "bulk":
        found += _unaccounted(folder, good, bad, 2 * limits.seconds + SPARE_SECONDS)
    return found


def _unsaid(done: Watched, good: set[str], bad: set[str]) -> list[str]:
    """Every name stands in a line of what a command said; good ones were done."""
    missing = sorted(name for name in good | bad if not any(name in line for line in done.lines))
    undone = sorted(name for name in good if not any(name in line and " -> " in line for line in done.lines))
    return [f"{word}: {names[:3]}" for word, names in (("nothing said of", missing), ("not done", undone)) if names]


def _unaccounted(folder: Path, good: set[str], bad: set[str], seconds: float) -> list[str]:
    """Every file has a row of the manifest; good ones are colored, and none took longer."""
    rows = {row["path"]: row for row in pq.read_table(folder / "bulk/_colorize/manifest").to_pylist()}
    missing = sorted((good | bad) ^ rows.keys())
    undone = sorted(name for name in good if name in rows and rows[name]["status"] != "ok")
    slow = sorted(path for path, row in rows.items() if row["seconds"] > seconds)
    kinds = (("without a row", missing), ("not done", undone), ("longer than allowed", slow))
    return [f"{word}: {names[:3]}" for word, names in kinds if names]


def command_line(command: str, folder: Path, names: set[str], limits: argparse.Namespace) -> list[str]:
    """The words of one command on the corpus in `folder/in`."""
    bounds = ["--set", f"limits.seconds={limits.seconds}", "--set", f"limits.memory_mb={limits.memory_mb}"]
    here = [str(folder / "in" / name) for name in sorted(names)]
    anyway = ["--set", "triage.color=color", "--set", "run.tolerate_failures=1"]
    words = {
        "photo": [*here, "-o", str(folder / "photo"), *bounds],
        "restore-grey": [*here, "-o", str(folder / "grey"), "--force", *bounds],
        "bulk": ["--input", str(folder / "in"), "--output", str(folder / "bulk"), *bounds, *anyway,
                 "--input-list", str(folder / "list.txt.gz")],
        "evaluate": ["--model", "default", "--data", str(folder / "in"), "--split", "all", *bounds, "--set",
                     "run.tolerate_failures=1", "--set", "measure.features=false", "--output", str(folder / "eval")],
        "report": [str(folder / "bulk"), "--input", str(folder / "in"), *bounds],
    }  # fmt: skip
    return [sys.executable, "-m", "colorize", command, *words[command]]


def main() -> int:
    """Makes the corpus, runs the commands on it and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=8, help="damaged copies of each format")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--memory-mb", type=int, default=512)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=COMMANDS)
    limits = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="hostile-") as place:
        folder = Path(place)
        (folder / "in").mkdir()
        good, bad = corpus(folder / "in", limits.mutations)
        (folder / "list.txt.gz").write_bytes(gzip.compress("\n\n".join(sorted(good | bad)).encode()))
        print(f"{len(good)} good files, {len(bad)} bad ones")
        for command in limits.commands:
            done = watch(command_line(command, folder, good | bad, limits), os.environ)
            found = faults(command, done, good, bad, folder, limits)
            failed += bool(found)
            figures = f"{done.seconds:6.1f} s, {done.peak_mb:5d} MB, {done.longest:5.1f} s between lines"
            print(f"{command:12} {figures}: {'; '.join(found) or 'kept to its limits'}", flush=True)
    return int(bool(failed))


def _resident(process: psutil.Process) -> int:
    try:
        memory = process.memory_info()
        return int(memory.rss - memory.shared)  # Ray's store is mapped into each of its processes
    except psutil.Error:
        return 0


def _saved(image: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def _progressive_giant() -> bytes:
    """A progressive JPEG of 16,000 x 16,000 equal pixels."""
    return _saved(Image.new("L", (16_000, 16_000), 90), "JPEG", progressive=True, quality=10)


def _jpeg_of_many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is there many times, each of which a decoder must go through."""
    data = _saved(Image.new("L", (2048, 2048), 90), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * count + data[-2:]


if __name__ == "__main__":
    sys.exit(main())
