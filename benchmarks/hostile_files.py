"""Malicious files, with valid ones beside them: the corpus of `benchmarks.hostile_corpus`."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageCms

from colorize.bulk.ledger.manifest import MANIFEST, RUN_FILE, Record, records_table
from tests import bombs
from tests.hostile_parquet import placements

FORMATS = ("PNG", "TIFF", "JPEG", "JPEG2000", "WEBP", "AVIF", "GIF", "BMP")
GOOD, ARCHIVE = "good-", "good-archive.parquet"
CELLS = "cells.parquet"  # valid images and bombs in one archive
VALUE = b"\xff\xd8" + b"x" * 640_000
PLAIN: dict[str, Any] = {"use_dictionary": False, "write_statistics": False}
RUN = {
    "state": "finished", "command": ["colorize", "bulk"], "input": "/nowhere", "output": "/nowhere",
    "model": {"name": "default", "architecture": "unet", "sha256": ""}, "settings": {}, "settings_sha256": "",
    "versions": {}, "started": "2020-01-01T00:00:00+00:00", "seconds": 1.0, "pictures_per_second": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class Corpus:
    """The content of the input.

    Attributes:
        good: names of the good files.
        bad: names of all others, archives included.
        rows: what a manifest calls each good image, in a file or in an archive.
    """

    good: frozenset[str]
    bad: frozenset[str]
    rows: frozenset[str]

    @property
    def names(self) -> list[str]:
        """All files."""
        return sorted(self.good | self.bad)


@cache
def seeds() -> dict[str, bytes]:
    """A small color photograph in every format, with EXIF, a profile and XMP where supported."""
    noise = np.random.default_rng(0).integers(0, 40, (96, 128, 3))
    ramp = np.linspace(0, 200, 128)[None, :, None] * np.array([1, 0.8, 0.5])
    image = Image.fromarray(np.uint8(np.clip(noise + ramp, 0, 255)))
    exif = Image.Exif()
    exif[0x010E] = "a scan"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options = {"exif": exif, "icc_profile": profile}
    return {each.lower(): _saved(image, each, **({} if each in ("GIF", "BMP") else options)) for each in FORMATS}


def mutations(data: bytes, count: int, chance: random.Random) -> Iterator[bytes]:
    """Damaged copies: bytes changed, the end removed, a part repeated, four bytes set to the largest number."""
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


@cache
def image_bombs() -> dict[str, bytes]:
    """Images that claim, or would expand to, far more than their size."""
    xmp = b"http://ns.adobe.com/xap/1.0/\0"
    deep = bombs.xmp("<n:a>" * 6000 + "</n:a>" * 6000)
    icc = b"ICC_PROFILE\0\1\1" + bombs.profile_of_overlapping_tags(60_000)
    gigabyte = bombs.zeros(1 << 30)
    return {
        "pixels.png": bombs.png_of(30_000, 30_000),
        "profile.png": bombs.png(bombs.png_chunk(b"iCCP", b"p\0\0" + gigabyte), bits=16),
        "text.png": bombs.png(bombs.png_chunk(b"zTXt", b"t\0\0" + gigabyte)),
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
        "pixels.jpg": _saved(Image.new("L", (16_000, 16_000), 90), "JPEG", progressive=True, quality=10),
        "boxes.jp2": bombs.jp2(struct.pack(">I4s", 8, b"free") * 200_000),
        "pixels.jp2": _jpeg_2000_of(60_000),
        "pixels.gif": b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0xF0, 0, 0) + bytes(6) + b",",
        "pixels.webp": _saved(Image.new("L", (16_383, 16_383)), "WEBP", lossless=True),
        "pixels.avif": _saved(Image.new("L", (8192, 8192)), "AVIF", speed=10),
        "pixels.bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 0, 0, 54, 40, 30_000, 30_000, 1, 24, 0, 0, 0, 0, 0, 0),
    }


@cache
def parquet_bombs(marker: Path) -> dict[str, bytes]:
    """Archives, lists and manifests that expand to far more than their size; some hold code that creates `marker`."""
    fixed = pa.array([None], pa.list_(pa.int8(), 1 << 28))
    found = {
        "dictionary": _parquet({"image": [VALUE] * 1000}),
        "delta": _parquet({"image": [VALUE] * 1000}, column_encoding="DELTA_BYTE_ARRAY", **PLAIN),
        "page": _parquet({"image": [VALUE] * 900}, data_page_size=1 << 30, write_batch_size=1000, **PLAIN),
        "largest-page": _parquet({"image": [VALUE] * 800}, data_page_size=1 << 30, write_batch_size=1000, **PLAIN),
        "rows": _parquet({"image": pa.nulls(20_000_000, pa.binary())}),
        "padding": _parquet({"image": [seeds()["jpeg"]], "carried": fixed}),
    }
    for place, column in placements(marker, 2).items():
        if place in ("plain", "image", "deep"):
            found[f"code-{place}"] = _parquet({"image": column})
            found[f"code-carried-{place}"] = _parquet({"image": [seeds()["jpeg"]] * 2, "carried": column})
    return found


def list_bombs() -> dict[str, bytes]:
    """Input lists of at most a few hundred kilobytes that expand to hundreds of megabytes."""
    alike = [f"{'a' * 4000}{number}" for number in range(100_000)]
    return {
        "empty-lines.txt.gz": _gzip(b"\n" * (1 << 20), 300),
        "long-line.txt.gz": _gzip(b"x" * (1 << 20), 300),
        "alike.txt.gz": gzip.compress("\n".join(alike).encode()),
        "quoted.csv.gz": _gzip(b'path\n"' + b'"\n",' * 1000, 1) + _gzip(b'"\n",' * (1 << 18), 300),
        "zeros.parquet.gz": _gzip(bytes(1 << 20), 1500),
        "repeated.parquet": _parquet({"path": ["a" * 4000] * 100_000}),
        "long.parquet": _parquet({"path": ["a" * 60_000] * 20_000}),
        "alike.parquet": _parquet({"path": alike}, use_dictionary=False, column_encoding="DELTA_BYTE_ARRAY"),
    }


def write_corpus(folder: Path, count: int, marker: Path) -> Corpus:
    """Writes an input: valid files, `count` damaged copies of each kind, all bombs, a sparse file."""
    chance, bad = random.Random(0), dict[str, bytes]()
    good = {f"{GOOD}{format}": data for format, data in seeds().items()}
    three = [good[f"{GOOD}{format}"] for format in ("jpeg", "png", "tiff")]
    good[ARCHIVE] = _parquet({"image": three, "note": ["a", "b", "c"]})
    for name, data in good.items():
        kind, dot, suffix = name.removeprefix(GOOD).partition(".")
        bad |= {f"{kind}-{n:03d}{dot}{suffix}": each for n, each in enumerate(mutations(data, count, chance))}
    bad |= {f"bomb-{name}": data for name, data in image_bombs().items()}
    bad |= {f"bomb-{name}.parquet": data for name, data in parquet_bombs(marker).items()}
    bad[CELLS] = _parquet({"image": [*three, *image_bombs().values()]})
    for name, data in (good | bad).items():
        (folder / name).write_bytes(data)
    with (folder / "bomb-sparse.tif").open("wb") as file:
        file.write(b"II*\0")
        file.truncate(7 << 40)
    rows = {name for name in good if name != ARCHIVE} | {
        f"{each}#{row}" for each in (ARCHIVE, CELLS) for row in (0, 1, 2)
    }
    return Corpus(frozenset(good), frozenset(bad) | {"bomb-sparse.tif"}, frozenset(rows))


def write_outputs(folder: Path, marker: Path) -> dict[str, bool]:
    """Untrusted outputs, each in its own folder; for each whether a report can be generated."""
    found = {}
    images = list(image_bombs().items())
    for number, start in enumerate(range(0, len(images), 6)):
        shown = dict(images[start : start + 6]) | {"good.jpg": seeds()["jpeg"]}
        records = [Record(name, name, "ok", width=96, height=96, confidence=0.5, run=1) for name in shown]
        _write_output(folder / f"copies-{number}", shown, _table(records))
        found[f"copies-{number}"] = True
    good = _table([Record("good.jpg", "good.jpg", "ok", run=1)])
    manifests = {name: data for name, data in parquet_bombs(marker).items() if not name.startswith("code-carried")}
    manifests |= {f"damaged-{n}": data for n, data in enumerate(mutations(good, 4, random.Random(0)))}
    manifests["message"] = _table([Record(f"{n}", error="e" * 9999, message="m" * 60_000) for n in range(5000)])
    for name, manifest in manifests.items():
        _write_output(folder / name, {}, manifest)
        found[name] = False
    for name, run in {
        "deep": b"[" * 8_000_000,
        "long": json.dumps(RUN | {"started": "9" * 8_000_000}).encode(),
    }.items():
        _write_output(folder / f"run-{name}", {}, good, run)
        found[f"run-{name}"] = False
    _write_output(folder / "run-sparse", {}, good, b"{")
    with (folder / "run-sparse" / RUN_FILE).open("r+b") as file:
        file.truncate(7 << 40)
    return found | {"run-sparse": False}


def _write_output(
    folder: Path, copies: Mapping[str, bytes], manifest: bytes, run: bytes = json.dumps(RUN).encode()
) -> None:
    part = folder / MANIFEST / f"part-000001-{'0' * 24}.parquet"
    part.parent.mkdir(parents=True)
    part.write_bytes(manifest)
    (folder / RUN_FILE).write_bytes(run)
    for name, data in copies.items():
        (folder / name).write_bytes(data)


def _table(records: Sequence[Record]) -> bytes:
    out = io.BytesIO()
    pq.write_table(records_table(records), out, compression="zstd")
    return out.getvalue()


def _parquet(columns: Mapping[str, Any], **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, compression="zstd", **options)
    return out.getvalue()


def _gzip(piece: bytes, count: int) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb") as file:
        for _ in range(count):
            file.write(piece)
    return out.getvalue()


def _saved(image: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def _jpeg_of_many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated many times, each of which a decoder must process."""
    data = _saved(Image.new("L", (2048, 2048), 90), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * count + data[-2:]


def _jpeg_2000_of(side: int) -> bytes:
    """A JPEG 2000 file of 32 x 32 pixels whose headers declare `side` x `side`, in one tile."""
    data = bytearray(bombs.jp2(b""))
    box, size = data.index(b"ihdr") + 4, data.index(b"\xff\x51") + 6
    struct.pack_into(">II", data, box, side, side)
    struct.pack_into(">IIIIII", data, size, side, side, 0, 0, side, side)
    return bytes(data)
