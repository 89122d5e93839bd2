"""The metadata of a colored copy as read by exiftool: complete and without warnings."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import typer
from PIL import ImageCms

from colorize.imaging.formats import decode, encode_grey
from scripts import metadata_pairs
from tests.conftest import program
from tests.images import LIMIT, colored, photograph, saved

pytestmark = pytest.mark.slow

SUFFIXES = {"JPEG": "jpg", "PNG": "png", "TIFF": "tif", "WEBP": "webp", "JPEG2000": "jp2"}
OUR_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced"
SCANNERS_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/negativeFilm"
WRITTEN = [
    "-EXIF:ImageDescription=Pier, 1931", "-EXIF:Make=Scanco", "-EXIF:Model=S1", "-EXIF:Software=ScanStation",
    "-EXIF:Artist=A. M\u00fcller", "-EXIF:Copyright=Archive", "-EXIF:DateTimeOriginal=1931:05:01 12:00:00",
    "-EXIF:UserComment=box 12", "-EXIF:FNumber=8", "-EXIF:Orientation#=6", "-GPSLatitude=50.9", "-GPSLatitudeRef=N",
    "-GPSLongitude=6.9", "-GPSLongitudeRef=E", "-EXIF:XResolution=300", "-EXIF:YResolution=300",
    "-EXIF:ResolutionUnit=inches", "-XMP-dc:Title=Pier", "-XMP-dc:Title-de=Steg", "-XMP-dc:Subject=pier",
    "-XMP-dc:Subject=sea", "-XMP-xmp:CreatorTool=VueScan", f"-XMP-iptcExt:DigitalSourceType={SCANNERS_TYPE}",
    "-XMP-photoshop:City=K\u00f6ln", "-IPTC:Headline=Pier", "-IPTC:Keywords=pier", "-IPTC:Keywords=sea",
    "-IPTC:CodedCharacterSet=UTF8", "-Comment=box 12",
]  # fmt: skip
# Sample storage and file properties differ by nature.
STRUCTURE = ("File:", "System:", "ExifTool:", "SourceFile", "IFD0:BitsPerSample", "IFD0:Photometric", "IFD0:Strip",
             "IFD0:RowsPerStrip", "PNG:ColorType", "PNG:BitDepth", "Jpeg2000:NumberOfComponents", "Jpeg2000:ColorSpace",
             "RIFF:", "PNG:Palette", "IFD0:ColorMap", "IFD0:Compression")  # fmt: skip
THUMBNAIL = "IFD1:"


def exiftool(*arguments: str | Path) -> str:
    command = [program("exiftool", "libimage-exiftool-perl"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def tags(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(exiftool("-a", "-G1", "-j", "-all", path))[0]
    return {key: value for key, value in found.items() if not key.startswith(STRUCTURE)}


def complaints(path: Path) -> set[str]:
    """Every warning and error of exiftool's validation."""
    lines = exiftool("-validate", "-warning", "-error", "-a", "-s3", path).splitlines()
    return {line for line in lines if line != "OK" and "Warning" not in line.split(" ", 1)[-1]}


@pytest.fixture
def source(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A scan of this format with every kind of metadata that the format supports."""
    path = tmp_path / f"scan.{SUFFIXES[request.param]}"
    path.write_bytes(scan(request.param))
    return path


@cache
def scan(format: str) -> bytes:
    """Made once: exiftool takes a third of a second."""
    with TemporaryDirectory() as folder:
        return written(format, Path(folder)).read_bytes()


def written(format: str, tmp_path: Path) -> Path:
    path = tmp_path / f"scan.{SUFFIXES[format]}"
    path.write_bytes(saved(photograph("L", (200, 150)), format))
    added = list(WRITTEN)
    if format != "JPEG2000":  # exiftool writes no profile there
        profile = tmp_path / "rgb.icc"
        profile.write_bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
        added.append(f"-ICC_Profile<={profile}")
    if format == "JPEG":
        thumbnail = tmp_path / "thumbnail.jpg"
        thumbnail.write_bytes(saved(photograph("L", (80, 60)), "JPEG"))
        added.append(f"-ThumbnailImage<={thumbnail}")
    if format != "TIFF":  # these two tags are not part of the standard there
        added += ["-EXIF:ExifImageWidth=9", "-EXIF:ExifImageHeight=9"]
    exiftool("-overwrite_original", "-m", *added, path)
    return path


@pytest.mark.parametrize("source", SUFFIXES, indirect=True)
def test_the_copy_keeps_all_metadata_without_warnings(source: Path) -> None:
    _, out = colored(source.read_bytes())
    copy = source.with_name(f"copy{source.suffix}")
    copy.write_bytes(out)
    before, after = tags(source), tags(copy)

    refreshed = {"ExifIFD:ExifImageWidth": 200, "ExifIFD:ExifImageHeight": 150} if source.suffix != ".tif" else {}
    replaced = {"XMP-iptcExt:DigitalSourceType": OUR_TYPE, **refreshed}
    for key, value in before.items():
        if not key.startswith(THUMBNAIL):
            assert after.get(key) == replaced.get(key, value), key
    assert {key: after.get(key) for key in replaced} == replaced
    assert not [key for key in after if key.startswith(THUMBNAIL)]
    assert complaints(copy) <= complaints(source)

    said = {key.removeprefix("XMP-colorize:"): value for key, value in after.items() if "colorize" in key}
    assert said["Statement"].startswith("Colors inferred by unet")
    assert (said["ModelSHA256"], said["SourceSHA256"], said["Luminance"]) == ("a" * 64, "b" * 64, "exact")
    assert said["OriginalDigitalSourceType"] == SCANNERS_TYPE
    assert said["CreatorTool"].startswith("colorize ")


@pytest.mark.parametrize("source", SUFFIXES, indirect=True)
def test_the_restored_scan_has_exactly_the_source_metadata(source: Path) -> None:
    _, out = colored(source.read_bytes())
    back = source.with_name(f"back{source.suffix}")
    back.write_bytes(encode_grey(decode(out, max_pixels=LIMIT)))
    before, after = tags(source), tags(back)

    changed = {"ExifIFD:ExifImageWidth", "ExifIFD:ExifImageHeight"}  # refreshed
    for key, value in before.items():
        if not key.startswith((THUMBNAIL, "ICC")) and key not in changed:
            assert after.get(key) == value, key
    assert not [key for key in after if "colorize" in key]
    assert complaints(back) <= complaints(source)


def test_random_metadata_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program("exiftool", "libimage-exiftool-perl")
    with pytest.raises(typer.Exit) as ended:
        metadata_pairs.main(generated=25, seed=5, keep=tmp_path)
    said = capsys.readouterr().out
    assert said == "25 pairs, 0 of them differ\n"
    assert not ended.value.exit_code


@pytest.mark.parametrize("format", SUFFIXES)
def test_the_copy_of_a_scan_without_metadata_has_no_warnings(format: str, tmp_path: Path) -> None:
    copy = tmp_path / f"copy.{SUFFIXES[format]}"
    _, out = colored(saved(photograph("L"), format))
    copy.write_bytes(out)
    found = tags(copy)
    assert found["XMP-iptcExt:DigitalSourceType"] == OUR_TYPE
    assert found["XMP-xmp:CreatorTool"].startswith("colorize ")
    assert not complaints(copy)
