from __future__ import annotations

import io
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from colorize.imaging.formats import Provenance, decode_small, read_info, read_origin
from colorize.imaging.formats.exif import updated
from colorize.imaging.formats.jpeg_stream import segments
from colorize.imaging.formats.metadata import ProvenanceRemoval
from colorize.imaging.formats.orientation import orient, unorient
from tests.images import (
    LIMIT,
    PROVENANCE,
    colored,
    grey,
    opened,
    photograph,
    saved,
)

# Metadata


def exif_block(orientation: int = 1, xmp: bytes | None = None) -> bytes:
    exif = Image.Exif()
    if xmp:
        exif[0x02BC] = xmp
    exif[0x010E], exif[0x0131], exif[0x0112] = "Pier, 1931", "ScanStation", orientation
    exif.get_ifd(0x8769)[0x9003] = "1931:05:01 12:00:00"
    return exif.tobytes()


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="box 12"/>'
    b"</rdf:RDF></x:xmpmeta>"
)


def xmp_of(encoded: bytes) -> bytes:
    info = opened(encoded).info
    packet = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    return packet.encode() if isinstance(packet, str) else packet


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_metadata_is_kept_with_provenance_added(format: str) -> None:
    rgb_profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options: dict[str, Any] = {"exif": exif_block(), "xmp": XMP, "icc_profile": rgb_profile, "dpi": (300, 300)}
    if format == "PNG":
        options.pop("xmp")
        options["pnginfo"] = png_text("XML:com.adobe.xmp", XMP.decode())
    if format == "TIFF":
        options["exif"] = exif_block(xmp=XMP)
    _, out = colored(saved(photograph("RGB"), format, **options))
    written = opened(out)
    exif = written.getexif()
    assert (exif[0x010E], exif[0x0131]) == ("Pier, 1931", "ScanStation")
    assert exif.get_ifd(0x8769)[0x9003] == "1931:05:01 12:00:00"
    assert written.info["icc_profile"] == rgb_profile
    assert b"box 12" in xmp_of(out)
    assert b'colorize:ModelSHA256="' + b"a" * 64 in xmp_of(out)
    if format != "WEBP":
        assert written.info["dpi"] == pytest.approx((300, 300), abs=0.01)


def png_text(key: str, value: str) -> Any:
    text = PngImagePlugin.PngInfo()
    text.add_itxt(key, value)
    return text


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "JPEG2000", "GIF"])
def test_the_copy_records_its_provenance(format: str) -> None:
    _, out = colored(saved(photograph(), format))
    packet = out.partition(b"<x:xmpmeta")[2] if format == "JPEG2000" else xmp_of(out)
    for word in (b"Colors inferred by unet", b"a" * 64, b"b" * 64, b"digitalsourcetype/algorithmicallyEnhanced"):
        assert word in packet
    assert "K\u00f6ln &amp; 'more' &lt;1&gt;.tif".encode() in packet


def test_the_provenance_is_well_formed_xml_for_any_source_name() -> None:
    odd = Provenance("m", "0" * 64, "a\x00b\udcff\"'<&>\n.png", "1" * 64)
    for existing in (None, XMP, b"not a packet"):
        ElementTree.fromstring(odd.xmp(existing))
    ElementTree.fromstring(PROVENANCE.xmp(XMP))


def test_a_new_packet_is_what_an_empty_one_becomes() -> None:
    odd = Provenance("m", "0" * 64, "a\x00b\udcff\"'<&>\t\n.png", "1" * 64)
    for provenance in (odd, PROVENANCE):
        assert provenance.xmp(None) == provenance.xmp(b"not a packet")


def test_readable_provenance_is_in_the_fields_that_viewers_show() -> None:
    _, jpeg = colored(saved(photograph(), "JPEG", comment="box 12"))
    comments = [s.payload for s in segments(jpeg) if s.marker == 0xFE]
    assert comments[0] == b"box 12"
    assert comments[1].startswith(b"Colors inferred by unet")
    _, png = colored(saved(photograph(), "PNG"))
    assert opened(png).info["Comment"].startswith("Colors inferred by unet")
    _, tiff = colored(saved(photograph(), "TIFF"))
    assert opened(tiff).tag_v2[270].startswith("Colors inferred by unet")  # type: ignore[attr-defined]
    _, codestream = colored(saved(photograph(), "JPEG2000", no_jp2=True))
    assert b"Colors inferred by unet" in codestream


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_grey_profile_is_dropped(format: str) -> None:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = b"GRAY"
    _, out = colored(saved(photograph(), format, icc_profile=bytes(profile)))
    assert not opened(out).info.get("icc_profile")


RDF = 'xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'


@pytest.mark.parametrize(
    "packet",
    [
        XMP,
        b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>' + XMP + b"\n" + b" " * 2000 + b'<?xpacket end="w"?>\0\0',
        f'<r:RDF {RDF}><r:Description r:about="x" xmlns:p="urn:p:" p:q="box 12"/></r:RDF>'.encode(),
        f'<RDF {RDF.replace(":r", "")}><Description xmlns:p="urn:p:"><p:q>box 12</p:q></Description></RDF>'.encode(),
    ],
    ids=["plain", "padded", "other prefix", "no prefix"],
)
def test_any_xmp_packet_is_merged_and_can_be_restored(packet: bytes) -> None:
    merged = PROVENANCE.xmp(packet)
    assert b"box 12" in merged
    origin = read_origin(merged)
    assert origin is not None
    assert (origin.source_sha256, origin.luma_exact) == ("b" * 64, True)
    restored = ProvenanceRemoval().xmp(merged)
    assert restored is not None
    assert b"box 12" in restored
    assert b"colorize" not in restored
    assert b"digitalsourcetype" not in restored


def test_restoring_a_source_without_xmp_leaves_none() -> None:
    assert ProvenanceRemoval().xmp(PROVENANCE.xmp(None)) is None
    assert ProvenanceRemoval().xmp(XMP) == XMP


def test_recoloring_replaces_the_provenance() -> None:
    other = Provenance("ddcolor", "c" * 64, "a.tif", "d" * 64, "trainedAlgorithmicMedia")
    twice = PROVENANCE.xmp(other.xmp(XMP))
    assert twice.count(b"colorize:Model=") == 1
    assert b"ddcolor" not in twice
    assert b"trainedAlgorithmicMedia" not in twice


def test_an_xmp_packet_with_entities_is_not_parsed() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "boom"><!ENTITY b "&a;&a;&a;">]>' + XMP.replace(b"box 12", b"&b;")
    assert b"boom" not in PROVENANCE.xmp(bomb)


@pytest.mark.parametrize("seed", range(30))
def test_damaged_exif_is_tolerated(seed: int) -> None:
    block = bytearray(exif_block(orientation=6))
    rng = np.random.default_rng(seed)
    for position in rng.integers(6, len(block), 6):
        block[position] = rng.integers(0, 256)
    assert updated(bytes(block), (10, 20), 3).startswith(b"Exif")
    assert updated(bytes(block[: rng.integers(0, len(block))]), (10, 20), 3) is not None


def test_stale_jpeg_thumbnails_are_removed_and_the_rest_kept() -> None:
    resource = b"8BIM%b\0\0\0\0\0\x04%b"
    resources = (
        resource % (b"\x04\x04", b"IPTC") + resource % (b"\x04\x0c", b"stal") + resource % (b"\x03\xed", b"dpi!")
    )
    jfif = b"\xff\xe0\0\x13JFIF\0\x01\x02\x01\0\x48\0\x48\x01\x01xyz"
    jfxx = b"\xff\xe0\0\x0bJFXX\0\x13old"
    photoshop = b"\xff\xed" + (len(resources) + 16).to_bytes(2, "big") + b"Photoshop 3.0\0" + resources
    plain = saved(photograph("L"), "JPEG")
    _, out = colored(plain[:2] + jfif + jfxx + photoshop + plain[20:])
    found = segments(out)
    assert found[0].payload == jfif[4:16] + b"\0\0"
    assert b"JFXX" not in out
    written = next(s.payload for s in found if s.marker == 0xED)
    assert written == b"Photoshop 3.0\0" + resources[:16] + resources[32:]


def test_png_text_is_kept() -> None:
    _, out = colored(saved(photograph(), "PNG", pnginfo=png_text("Title", "Pier")))
    assert opened(out).info["Title"] == "Pier"


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_the_network_input_is_upright_and_the_file_layout_unchanged(format: str, orientation: int) -> None:
    source = saved(photograph(), format, exif=exif_block(orientation))
    small = decode_small(source, LIMIT, max_pixels=LIMIT)
    upright = grey(ImageOps.exif_transpose(Image.open(io.BytesIO(source))))
    assert np.array_equal(small.luma, upright)
    assert (small.info.width, small.info.height, small.info.orientation) == (61, 47, orientation)

    image, out = colored(source)
    assert image.luma.shape == (47, 61)
    assert Image.open(io.BytesIO(out)).size == Image.open(io.BytesIO(source)).size
    assert read_info(out).orientation == orientation
    again = grey(ImageOps.exif_transpose(Image.open(io.BytesIO(out))))
    assert np.abs(again.astype(int) - upright).max() <= (255 if format == "JPEG" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_matches_pillow_and_is_invertible(orientation: int) -> None:
    stored = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(stored)
    image.getexif()[0x0112] = orientation
    assert np.array_equal(orient(stored, orientation), np.asarray(ImageOps.exif_transpose(image)))
    assert np.array_equal(unorient(orient(stored, orientation), orientation), stored)
