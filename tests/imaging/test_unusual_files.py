"""Files that decoders reject although their essential data is readable, and unreadable ones with a remedy."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from colorize.imaging.formats import ImageDecodeError, decode, decode_small, output_name, read_origin
from colorize.imaging.formats.jpeg_luma import luma_coefficients
from colorize.imaging.formats.png import Chunk, chunks
from tests.every_kind import samples
from tests.images import LIMIT, colored, photograph, saved
from tests.imaging.test_exiftool import exiftool
from tests.imaging.test_stale_metadata import exif_block, packet, resource

SIZE = (64, 48)


def with_chunk(chunk: bytes, at_end: bool, bits: int = 8) -> bytes:
    png = bytes(imagecodecs.png_encode(samples(3, bits, SIZE)))
    at = len(png) - 12 if at_end else 33
    return png[:at] + chunk + png[at:]


def damaged(kind: bytes, data: bytes) -> bytes:
    encoded = Chunk(kind, data).encoded()
    return encoded[:-1] + bytes((encoded[-1] ^ 1,))


LONG = b"a long history of many edits " * 60_000
ODD_CHUNKS = {
    "text with a wrong checksum": damaged(b"tEXt", b"Title\0Pier"),
    "EXIF with a wrong checksum": damaged(b"eXIf", b"II*\0\x08\0\0\0\0\0\0\0\0\0"),
    "unknown with a wrong checksum": damaged(b"prVt", b"1234"),
    "long packed text": Chunk(b"zTXt", b"History\0\0" + zlib.compress(LONG)).encoded(),
    "long text": Chunk(b"iTXt", b"History\0\0\0\0\0" + LONG).encoded(),
    "text that is no zlib stream": Chunk(b"zTXt", b"History\0\0????").encoded(),
    "long packed XMP": Chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(packet() + LONG)).encoded(),
    "long profile": Chunk(b"iCCP", b"big\0\0" + zlib.compress(bytes(2**21))).encoded(),
}  # fmt: skip


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("at_end", [False, True], ids=["before the pixels", "after them"])
@pytest.mark.parametrize("name", ODD_CHUNKS)
def test_bad_metadata_never_loses_the_pixels_of_a_png(name: str, at_end: bool, bits: int) -> None:
    source, plain = with_chunk(ODD_CHUNKS[name], at_end, bits), bytes(imagecodecs.png_encode(samples(3, bits, SIZE)))
    image, out = colored(source)
    assert np.array_equal(image.luma, decode(plain, max_pixels=LIMIT).luma)
    assert read_origin(decode(out, max_pixels=LIMIT).metadata.xmp) is not None


def test_long_text_is_copied() -> None:
    chunk = Chunk(b"zTXt", b"History\0\0" + zlib.compress(LONG))
    assert chunk in list(chunks(colored(with_chunk(chunk.encoded(), False))[1]))


def test_damaged_pixels_of_a_png_stay_damaged() -> None:
    png = bytearray(imagecodecs.png_encode(samples(1, 8, SIZE)))
    png[60] ^= 1
    with pytest.raises(ImageDecodeError):
        decode(bytes(png), max_pixels=LIMIT)


def raw_profile(kind: bytes, name: bytes, profile: bytes) -> bytes:
    text = b"\n%b\n%8d\n%b\n" % (name, len(profile), profile.hex().encode())
    return Chunk(
        kind, b"Raw profile type " + name + b"\0" + (b"\0" + zlib.compress(text) if kind == b"zTXt" else text)
    ).encoded()


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt"])
def test_thumbnails_in_text_profiles_are_removed(kind: bytes, tmp_path: Path) -> None:
    thumbnail = saved(photograph("L", (80, 60)), "JPEG")
    start = len(exif_block("<", 0, 0)) - 6
    exif = exif_block("<", start, len(thumbnail), thumbnail)
    resources = resource(1036, bytes(28) + thumbnail) + resource(1028, b"\x1c\2\x78\0\4pier")
    xmp = packet('<rdf:Description rdf:about="" dc:source="box 12"/>')
    added = raw_profile(kind, b"exif", exif) + raw_profile(kind, b"8bim", resources) + raw_profile(kind, b"xmp", xmp)
    (tmp_path / "copy.png").write_bytes(colored(with_chunk(added, False))[1])
    said = exiftool("-a", "-G1", "-b", "-j", "-all", tmp_path / "copy.png")
    for kept in ("Market square, seen from the town hall", "1931:05:06 10:00:00", "pier", "box 12", "Colors inferred"):
        assert kept in said
    assert "Thumbnail" not in said


# JPEG without its end


def without_end(options: dict[str, object], mode: str) -> bytes:
    jpeg = saved(photograph(mode, (96, 80)), "JPEG", **options)
    assert jpeg.endswith(b"\xff\xd9")
    return jpeg[:-2]


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}], ids=str)
def test_a_jpeg_without_its_end_marker_is_colored_with_a_warning(options: dict[str, object], mode: str) -> None:
    source = without_end(options, mode)
    for cut in (source, source + b"\xff"):
        assert "end mark" in decode_small(cut, 64, max_pixels=LIMIT).info.note
        image, out = colored(cut)
        assert "end mark" in image.info.note
        assert np.array_equal(luma_coefficients(out), luma_coefficients(source + b"\xff\xd9"))


@pytest.mark.parametrize("lost", [2, 20, 300])
@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=str)
def test_a_jpeg_with_missing_data_is_truncated(options: dict[str, object], lost: int) -> None:
    source = without_end(options, "L")[:-lost]
    with pytest.raises(ImageDecodeError) as caught:
        decode(source, max_pixels=LIMIT)
    assert caught.value.code == "truncated"


def test_a_progressive_jpeg_without_its_last_scan_is_truncated() -> None:
    source = without_end({"progressive": True}, "L")
    last = source.rindex(b"\xff\xda")
    with pytest.raises(ImageDecodeError) as caught:
        decode(source[: source.rindex(b"\xff\xc4", 0, last)], max_pixels=LIMIT)
    assert caught.value.code == "truncated"


@pytest.mark.parametrize("marker", [b"\xff\xda", b"\xff\xc2"], ids=["scan", "frame"])
def test_a_jpeg_with_truncated_headers_has_an_error_code(marker: bytes) -> None:
    source = without_end({"progressive": True}, "RGB")
    at = source.rindex(marker)
    for length in (0, 1, 2, 6):
        emptied = source[: at + 2] + (length + 2).to_bytes(2, "big") + source[at + 4 : at + 4 + length]
        with pytest.raises(ImageDecodeError):
            decode(emptied, max_pixels=LIMIT)


# Unsupported files


def psd(depth: int, version: int = 1) -> bytes:
    return struct.pack(">4sH6xHIIHH", b"8BPS", version, 1, 48, 64, depth, 1) + bytes(100)


UNSUPPORTED = {
    "lossless JPEG": bytes(imagecodecs.ljpeg_encode(samples(1, 8, SIZE), bitspersample=8)),
    "PSD of 16 bits": psd(16),
    "PSD of 32 bits": psd(32),
    "PSB": psd(8, version=2),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_files_are_refused_with_a_remedy(name: str) -> None:
    for read in (decode, lambda data, max_pixels: decode_small(data, 64, max_pixels=max_pixels)):
        with pytest.raises(ImageDecodeError) as caught:
            read(UNSUPPORTED[name], max_pixels=LIMIT)
        assert caught.value.code == "unsupported"
        assert "TIFF" in str(caught.value)


# Names


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("letters", ["a", "\u00f6", "\U0001f5bc"])
def test_a_name_with_an_added_suffix_fits_the_file_system(letters: str, taken: bool, tmp_path: Path) -> None:
    names = set()
    for length in range(235, 256):
        base = os.fsencode(letters * 255)[: length - 5].decode(errors="ignore") + "x.gif"
        name = output_name(f"1931/{base}", "GIF", taken)
        assert name.startswith("1931/")
        assert name.endswith(".png")
        (tmp_path / name.removeprefix("1931/")).touch()
        names.add(name)
    assert len(names) == len({os.fsencode(letters * 255)[: n - 5].decode(errors="ignore") for n in range(235, 256)})
    assert output_name("a.gif", "GIF") == "a.gif.png"


@pytest.mark.parametrize("key", [b"Comment", b"comment"])
def test_a_comment_of_the_source_is_kept(key: bytes) -> None:
    source = with_chunk(Chunk(b"tEXt", key + b"\0box 12").encoded(), at_end=False)
    texts = [c.data for c in chunks(colored(source)[1]) if c.type == b"tEXt"]
    assert texts[0] == key + b"\0box 12"
    assert texts[1].startswith(b"Disclaimer\0Colors inferred")
