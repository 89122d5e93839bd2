"""Compares the metadata of images and their copies with exiftool: nothing lost, nothing stale, no new warnings.

python scripts/metadata_pairs.py [FOLDER...] [--generated 300] [--seed 1] [--keep pairs]

Colors every image of the folders, and generated ones with random metadata: EXIF, IPTC, XMP and color profiles, split
over segments, too large for one, and with wrong pointers. Pairs that differ are saved in `--keep`, and the exit status
is then 1. Needs exiftool.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from colorize.imaging.formats import ImageDecodeError, Provenance, decode_header, has_pages
from colorize.predict.render import render
from scripts.random_metadata import images

Said = dict[str, list[Any]]

MAX_PIXELS = 100_000_000
PROVENANCE = Provenance("pairs", "0" * 64, "source", "1" * 64)
# Properties of the file or its sample storage, which differ in the copy.
OWN = (
    "SourceFile", "System", "ExifTool", "File", "Composite", "RIFF", "GIF", "BMP", "Photoshop:Image", "PNG:BitDepth",
    "PNG:ColorType", "PNG:Interlace", "PNG:Filter", "PNG:Compression", "PNG:Palette", "PNG:Transparency", "PNG-pHYs",
    "PNG:BackgroundColor", "PNG:SignificantBits",
)  # fmt: skip
OF_SAMPLES = frozenset(
    ("ImageWidth", "ImageHeight", "BitsPerSample", "PhotometricInterpretation", "SamplesPerPixel", "Compression",
     "StripOffsets", "RowsPerStrip",
     "StripByteCounts", "PlanarConfiguration", "Predictor", "TileWidth", "TileLength", "TileOffsets", "TileByteCounts",
     "ColorMap", "FillOrder", "YCbCrSubSampling", "YCbCrPositioning", "YCbCrCoefficients", "ReferenceBlackWhite",
     "JPEGTables", "T4Options", "T6Options", "SampleFormat", "SMinSampleValue", "SMaxSampleValue", "ExtraSamples",
     "GrayResponseUnit", "GrayResponseCurve", "MinSampleValue", "MaxSampleValue", "SubfileType", "OldSubfileType",
     "ExifImageWidth", "ExifImageHeight", "TransferFunction", "InkSet", "NumberofInks", "ColorSpace",
     "NumberOfComponents", "BitsPerComponent", "DigitalSourceType", "ColorMode", "ICCProfileName", "DotRange",
     "TargetPrinter", "ProcessingSoftware", "FreeOffsets", "FreeByteCounts", "PixelFormat", "XMPToolkit")
)  # fmt: skip
# Metadata that depicts the source or only applies to it.
GONE = (
    "Thumbnail", "Preview", "JpgFromRaw", "OtherImage", "JUMBF", "C2PA", "MPF", "MPImage", "GainMap", "MotionPhoto",
    "MicroVideo", "XMP-GContainer", "XMP-Container", "ImageSourceData", "IFD1:", "XMP-hdrgm", "EmbeddedVideo", "Layer",
)  # fmt: skip
GREY = {"SamplesPerPixel": 1, "PhotometricInterpretation": 1, "ColorMode": 1, "ColorSpaceData": "GRAY"}


def main(
    folders: Annotated[list[Path] | None, typer.Argument()] = None,
    generated: Annotated[int, typer.Option(min=0)] = 300,
    seed: Annotated[int, typer.Option()] = 1,
    keep: Annotated[Path, typer.Option()] = Path("pairs"),
) -> None:
    """Compares each image with its copy."""
    for name in ("before", "after"):
        shutil.rmtree(keep / name, ignore_errors=True)
        (keep / name).mkdir(parents=True)
    found = [pair for name, data in _sources(folders or [], generated, seed) if (pair := _colored(name, data, keep))]
    before, after = (_said(keep / side) for side in ("before", "after"))
    differing = 0
    for name in found:
        if words := list(differences(before[name], after[name])):
            differing += 1
            typer.echo(f"{name}\n  " + "\n  ".join(words[:20]))
        else:
            for side in ("before", "after"):
                (keep / side / name).unlink()
    typer.echo(f"{len(found)} pairs, {differing} of them differ")
    raise typer.Exit(differing > 0)


def _sources(folders: list[Path], generated: int, seed: int) -> Iterator[tuple[str, bytes]]:
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            mark = hashlib.sha256(str(path).encode()).hexdigest()[:6]
            yield f"{path.stem}-{mark}{path.suffix}", path.read_bytes()
    yield from images(generated, seed)


def _colored(name: str, data: bytes, keep: Path) -> str:
    """Writes the pair, unless the file cannot be colored; returns its name."""
    ab = np.full((2, 4, 4), 20, np.float32)
    try:
        info = decode_header(data).info
        pages = dict.fromkeys(range(info.frames), ab) if has_pages(info) else ab
        made = render(data, pages, PROVENANCE, max_pixels=MAX_PIXELS)
    except ImageDecodeError:
        return ""
    (keep / "before" / name).write_bytes(data)
    (keep / "after" / name).write_bytes(made.data)
    return name


def _said(folder: Path) -> dict[str, Said]:
    """Every tag of every file in a folder, by file name; repeated tags have several values."""
    command = ["exiftool", "-a", "-G1:4", "-n", "-j", "-struct", "-api", "largefilesupport=1", "-all", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    said = defaultdict[str, Said](lambda: defaultdict(list))
    for each in json.loads(done.stdout or "[]"):
        for key, value in each.items():
            said[Path(each["SourceFile"]).name][re.sub(":Copy[0-9]+", "", key)].append(value)
    return said


def differences(before: Said, after: Said) -> Iterator[str]:
    """Descriptions of what the copy lacks, and of what it should not contain."""
    is_grey = any("GRAY" in values for key, values in before.items() if key.endswith("ColorSpaceData"))
    for key, values in before.items():
        name = key.rpartition(":")[2]
        if key.startswith(OWN) or name in OF_SAMPLES or any(word in key for word in GONE):
            continue
        if is_grey and key.startswith("ICC"):  # replaced by an RGB profile with the same curve
            continue
        if lost := [
            value for value in values if str(value).strip() and values.count(value) > after.get(key, []).count(value)
        ]:
            yield f"lost {key}: {str(lost)[:80]} is {str(after.get(key))[:80]}"
    for key, values in after.items():
        if any(word in key for word in GONE) or GREY.get(key.rpartition(":")[2]) in values:
            yield f"stale {key}: {str(values)[:80]}"
        is_complaint = key.startswith("ExifTool") and key.endswith(("Warning", "Error"))
        if is_complaint and _kinds(values) - _kinds(before.get(key, [])):
            yield f"new {key}: {values}, before {before.get(key)}"


def _kinds(complaints: list[Any]) -> set[str]:
    """Warnings without their numbers, since tags have other offsets in a copy."""
    return {re.sub("[0-9]+", "#", str(complaint)) for complaint in complaints}


if __name__ == "__main__":
    typer.run(main)
