"""Metadata that a copy must drop because it describes or depicts the source, and what must be kept."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from colorize.imaging.formats import decode, encode_grey, exif, photoshop, read_origin
from colorize.imaging.formats.jpeg_segments import copied_segments
from colorize.imaging.formats.jpeg_stream import APP1, APP2, APP11, APP13, SOI, Segment, segments
from colorize.imaging.formats.jpeg_xmp import read_xmp
from colorize.imaging.formats.metadata import ProvenanceRemoval
from tests.images import LIMIT, PROVENANCE, colored, photograph, saved
from tests.imaging.test_exiftool import exiftool, tags

MAIN = b"http://ns.adobe.com/xap/1.0/\0"
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def with_segments(*extra: Segment, mode: str = "L") -> bytes:
    jpeg = saved(photograph(mode, (200, 150)), "JPEG")
    return SOI + b"".join(s.encoded() for s in extra) + jpeg[2:]


def after(source: bytes, tmp_path: Path) -> tuple[dict[str, object], dict[str, object]]:
    """exiftool's output for the source and for its copy."""
    before, copy = tmp_path / "before.jpg", tmp_path / "copy.jpg"
    before.write_bytes(source)
    copy.write_bytes(colored(source)[1])
    return tags(before), tags(copy)


# EXIF


def exif_block(order: str, pointer: int, length: int, tail: bytes = b"") -> bytes:
    """A block with texts before and after its thumbnail's directory, whose pointer may be wrong."""
    texts = {0x010E: b"Market square, seen from the town hall\0", 0x8298: b"City Archive\0", 0x013B: b"Unknown\0"}
    first, count = 8, len(texts) + 1
    values = first + 2 + 12 * count + 4
    entries, body = b"", b""
    for tag, text in sorted(texts.items()):
        entries += struct.pack(order + "HHII", tag, 2, len(text), values + len(body))
        body += text
    body += bytes(len(body) % 2)
    inner = values + len(body)
    date = b"1931:05:06 10:00:00\0"
    entries += struct.pack(order + "HHII", 0x8769, 4, 1, inner)
    body += struct.pack(order + "HHHIII", 1, 0x9003, 2, len(date), inner + 18, 0) + date
    second = values + len(body)
    body += struct.pack(order + "H", 2)
    body += struct.pack(order + "HHII", 0x201, 4, 1, pointer) + struct.pack(order + "HHII", 0x202, 4, 1, length)
    body += bytes(4)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    block = mark + struct.pack(order + "I", first) + struct.pack(order + "H", count)
    pieces = [entries[i : i + 12] for i in range(0, len(entries), 12)]
    numbers = {struct.unpack(order + "H", piece[:2]): piece for piece in pieces}
    fixed = b"".join(piece for _, piece in sorted(numbers.items()))
    return exif.PREFIX + block + fixed + struct.pack(order + "I", second) + body + tail


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from("<>"),
    st.integers(0, 2**32 - 1) | st.integers(0, 400),
    st.integers(0, 2**32 - 1) | st.integers(0, 400),
)
def test_a_bad_thumbnail_pointer_loses_nothing_else(order: str, pointer: int, length: int) -> None:
    block = exif_block(order, pointer, length, tail=b"\xff\xd8thumbnail\xff\xd9")
    found = Image.Exif()
    found.load(exif.updated(block, (10, 20), 3))
    assert found[0x010E] == "Market square, seen from the town hall"
    assert (found[0x8298], found[0x013B]) == ("City Archive", "Unknown")
    assert found.get_ifd(0x8769)[0x9003] == "1931:05:06 10:00:00"
    assert not found.get_ifd(1)


@pytest.mark.parametrize("order", "<>")
def test_a_thumbnail_is_removed_with_its_data(order: str) -> None:
    thumbnail = saved(photograph("L", (80, 60)), "JPEG")
    start = len(exif_block(order, 0, 0)) - len(exif.PREFIX)
    at_the_end = exif.updated(exif_block(order, start, len(thumbnail), thumbnail), (10, 20), 3)
    assert thumbnail[:20] not in at_the_end
    assert len(at_the_end) < start + 20
    cut = exif.updated(exif_block(order, start, 10**9, thumbnail), (10, 20), 3)
    assert thumbnail[:20] not in cut


# Photoshop's resources


def resource(number: int, data: bytes) -> bytes:
    return b"8BIM" + struct.pack(">HHI", number, 0, len(data)) + data + bytes(len(data) % 2)


def iptc(tag: int, text: bytes) -> bytes:
    return bytes((0x1C, 2, tag)) + struct.pack(">H", len(text)) + text


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([1028, 1033, 1036, 1034, 1005]), st.integers(0, 90_000)), min_size=1, max_size=6
    ),
    st.integers(200, 65_000),
)
def test_resources_that_span_segments_are_preserved(listed: list[tuple[int, int]], room: int) -> None:
    resources = [resource(number, bytes([number % 251]) * size) for number, size in listed]
    body = b"".join(resources)
    pieces = [body[i : i + room] for i in range(0, len(body), room)]
    header = [Segment(APP13, photoshop.HEADING + piece) for piece in pieces]
    written = copied_segments(header, ProvenanceRemoval(), (10, 20), 3)
    joined = b"".join(s.payload[len(photoshop.HEADING) :] for s in written)
    assert joined == b"".join(
        data for data, (number, _) in zip(resources, listed, strict=True) if number not in (1033, 1036)
    )
    assert all(len(s.payload) <= 65533 for s in written)


def test_iptc_behind_a_thumbnail_that_spans_segments_is_read(tmp_path: Path) -> None:
    thumbnail = struct.pack(">IIIIIIHH", 1, 80, 60, 240, 14400, 7000, 24, 1) + saved(photograph("L", (80, 60)), "JPEG")
    body = resource(1036, thumbnail) + resource(1028, iptc(120, b"Market square") + iptc(80, b"Unknown"))
    cut = len(thumbnail) // 2
    source = with_segments(*(Segment(APP13, photoshop.HEADING + part) for part in (body[:cut], body[cut:])))
    before, copy = after(source, tmp_path)
    assert before["IPTC:Caption-Abstract"] == copy["IPTC:Caption-Abstract"] == "Market square"
    assert "Photoshop:PhotoshopThumbnail" in before
    assert "Photoshop:PhotoshopThumbnail" not in copy
    assert "ExifTool:Warning" not in copy


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_loses_layers_and_thumbnail_and_keeps_the_rest(bits: int) -> None:
    out = io.BytesIO()
    resources = resource(1036, b"stale" * 20) + resource(1028, iptc(120, b"Market square"))
    extra = [(37724, 7, 5, b"layer", True), (34377, 1, len(resources), resources, True), (52545, 7, 4, b"c2pa", True)]
    tifffile.imwrite(out, np.zeros((20, 30), f"u{bits // 8}"), extratags=extra, metadata=None)
    with tifffile.TiffFile(io.BytesIO(colored(out.getvalue())[1])) as file:
        kept = file.pages[0].tags  # type: ignore[union-attr]
        assert 37724 not in kept
        assert 52545 not in kept
        assert bytes(kept[34377].value) == resource(1028, iptc(120, b"Market square"))


# Color profiles


@pytest.mark.parametrize(
    ("numbers", "kept"), [((1, 2, 3), True), ((3, 1, 2), True), ((1, 2), False), ((1, 1, 3), False)]
)
def test_an_incomplete_profile_is_dropped(numbers: tuple[int, ...], kept: bool) -> None:
    third = -(-len(ICC) // 3)
    parts = (Segment(APP2, b"ICC_PROFILE\0" + bytes((n, 3)) + ICC[(n - 1) * third : n * third]) for n in numbers)
    _, out = colored(with_segments(*parts, mode="RGB"))
    written = [s.payload for s in segments(out) if s.payload.startswith(b"ICC_PROFILE\0")]
    assert [p[12:] for p in written] == ([b"\1\1" + ICC] if kept else [])


# XMP


def packet(*descriptions: str) -> bytes:
    rdf = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{rdf}" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"{''.join(descriptions)}</rdf:RDF></x:xmpmeta>"
    ).encode()


def subjects(count: int) -> str:
    words = "".join(f"<rdf:li>subject {i:06d}{' ' * 180}</rdf:li>" for i in range(count))
    return f'<rdf:Description rdf:about=""><dc:subject><rdf:Bag>{words}</rdf:Bag></dc:subject></rdf:Description>'


@pytest.mark.parametrize("count", [1, 250, 295, 299])
def test_provenance_is_written_beside_any_amount_of_metadata(count: int, tmp_path: Path) -> None:
    source = with_segments(Segment(APP1, MAIN + packet(subjects(count))))
    _, once = colored(source)
    origin = read_origin(decode(once, max_pixels=LIMIT).metadata.xmp)
    assert origin is not None
    assert origin.source_sha256 == "b" * 64
    (tmp_path / "copy.jpg").write_bytes(once)
    said = exiftool("-j", "-G1", "-XMP-dc:Subject", "-XMP-colorize:all", tmp_path / "copy.jpg")
    assert f"subject {count - 1:06d}" in said
    assert "ModelSHA256" in said
    twice = colored(once)[1]
    for copy in (once, twice):
        back = encode_grey(decode(copy, max_pixels=LIMIT))
        restored = read_xmp(segments(back))
        assert restored is not None
        assert restored.count(b"<rdf:li>") == count
        assert b"colorize" not in restored
        assert b"HasExtendedXMP" not in restored
        assert sum(MAIN in s.payload for s in segments(back)) == 1


STALE = {
    "xmp": ("http://ns.adobe.com/xap/1.0/", "xmp:Thumbnails"),
    "photoshop": ("http://ns.adobe.com/photoshop/1.0/", "photoshop:ColorMode"),
    "profile": ("http://ns.adobe.com/photoshop/1.0/", "photoshop:ICCProfile"),
    "tiff": ("http://ns.adobe.com/tiff/1.0/", "tiff:SamplesPerPixel"),
    "camera": ("http://ns.google.com/photos/1.0/camera/", "GCamera:MotionPhoto"),
    "video": ("http://ns.google.com/photos/1.0/camera/", "GCamera:MicroVideoOffset"),
    "container": ("http://ns.google.com/photos/1.0/container/", "Container:Directory"),
    "gain map": ("http://ns.adobe.com/hdr-gain-map/1.0/", "hdrgm:Version"),
    "apple": ("http://ns.apple.com/HDRGainMap/1.0/", "HDRGainMap:HDRGainMapVersion"),
    "claim": ("http://purl.org/dc/terms/", "dcterms:provenance"),
}


@pytest.mark.parametrize("form", ["attribute", "element"])
@pytest.mark.parametrize("name", STALE)
def test_metadata_that_only_applies_to_the_source_is_dropped(name: str, form: str) -> None:
    namespace, key = STALE[name]
    prefix = key.split(":")[0]
    declared = f'xmlns:{prefix}="{namespace}"'
    attribute = f'<rdf:Description rdf:about="" {declared} {key}="1" dc:source="box 12"/>'
    element = f'<rdf:Description rdf:about="" {declared} dc:source="box 12"><{key}>1</{key}></rdf:Description>'
    said = PROVENANCE.xmp(packet(attribute if form == "attribute" else element))
    assert f"{key}=".encode() not in said
    assert f"<{key}".encode() not in said
    assert b"box 12" in said


def test_metadata_of_an_rgb_source_is_kept_in_the_copy() -> None:
    attribute = 'xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" photoshop:ColorMode="3"'
    source = with_segments(Segment(APP1, MAIN + packet(f'<rdf:Description rdf:about="" {attribute}/>')), mode="RGB")
    assert b'photoshop:ColorMode="3"' in colored(source)[1]


@pytest.mark.parametrize(
    "said", ['tiff:SamplesPerPixel="1"', 'tiff:PhotometricInterpretation="1"', 'photoshop:ColorMode="1"']
)
def test_the_copy_of_an_rgb_source_tagged_grey_is_not_tagged_grey(said: str) -> None:
    """As when a program saved a grey scan in color without updating the XMP."""
    declared = 'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"'
    description = f'<rdf:Description rdf:about="" {declared} {said} dc:source="box 12"/>'
    _, out = colored(with_segments(Segment(APP1, MAIN + packet(description)), mode="RGB"))
    assert said.encode() not in out
    assert b"box 12" in out


def test_photoshop_metadata_is_kept(tmp_path: Path) -> None:
    listed = [(1028, iptc(120, b"Market square")), (1058, exif_block("<", 0, 0)[6:]), (1060, packet(subjects(1))),
              (1005, struct.pack(">IHHIHH", 300 << 16, 1, 1, 300 << 16, 1, 1)), (1036, b"thumbnail")]  # fmt: skip
    resources = b"".join(resource(number, data) for number, data in listed)
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 1, 8, 8, 8, 1) + struct.pack(">II", 0, len(resources)) + resources
    copy = tmp_path / "copy.png"
    copy.write_bytes(colored(head + struct.pack(">IH", 0, 0) + bytes(range(64)))[1])
    found = tags(copy)
    assert found["IPTC:Caption-Abstract"] == found["IFD0:ImageDescription"][:13] == "Market square"
    assert found["XMP-dc:Subject"].strip() == "subject 000000"
    assert found["PNG-pHYs:PixelsPerUnitX"] == 11811
    assert b"thumbnail" not in copy.read_bytes()


def test_content_credentials_and_gain_maps_of_jpegs_are_dropped() -> None:
    claim = Segment(APP11, b"JP\0\1\0\0\0\1\0\0\0\x20jumb\0\0\0\x18jumdc2pa" + bytes(16))
    gain_map = Segment(APP2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0")
    _, out = colored(with_segments(claim, gain_map))
    assert b"c2pa" not in out
    assert b"21496" not in out
