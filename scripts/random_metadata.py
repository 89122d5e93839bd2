"""Images with random metadata, for `metadata_pairs` and the tests."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image, ImageCms

from colorize.imaging.formats.jpeg_stream import APP1, APP2, APP13, COM, Segment

WORDS = ("Market square", "Köln, Domplatz", "box 12", "1931", "A. Müller & Söhne", "x" * 300, "<pier>", "日本", " ")
SUFFIXES = {"JPEG": "jpg", "PNG": "png", "TIFF": "tif", "WEBP": "webp", "JPEG2000": "jp2"}
_TEXTS = (0x010D, 0x010E, 0x010F, 0x0110, 0x0131, 0x013B, 0x013C, 0x8298)
_INNER = (0x9003, 0x9004, 0x9286, 0xA420, 0xA430, 0xA431, 0xA433, 0xA434, 0xA435)
_GPS = (1, 3, 18, 29)
_DATASETS = (5, 25, 55, 80, 85, 90, 101, 105, 110, 115, 116, 120, 122)


def images(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of each image, cycling through the formats."""
    for number in range(count):
        rng = random.Random(f"{seed}-{number}")
        format = list(SUFFIXES)[number % len(SUFFIXES)]
        yield f"random-{seed}-{number}.{SUFFIXES[format]}", image(format, rng)


def image(format: str, rng: random.Random) -> bytes:
    """A small image of this format with much metadata."""
    mode = rng.choice(("L", "RGB"))
    pixels = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, (24, 32, len(mode)), np.uint8)
    image = Image.fromarray(pixels[..., 0] if mode == "L" else pixels)
    if format == "JPEG":
        return _jpeg(image, rng)
    if format == "PNG":
        return _png(image, rng)
    options: dict[str, object] = {"exif": exif(rng), "xmp": xmp(rng)} if format == "WEBP" else {}
    if format == "TIFF":
        return _tiff(image, rng)
    if mode == "RGB" and format == "WEBP":
        options["icc_profile"] = icc()
    out = io.BytesIO()
    image.save(out, format, **({"lossless": True} if format == "WEBP" else {}), **options)
    return out.getvalue() + (_jp2_box(rng) if format == "JPEG2000" else b"")


def _jpeg(image: Image.Image, rng: random.Random) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG")
    said: list[Segment] = []
    if rng.random() < 0.8:
        said.append(Segment(APP1, b"Exif\0\0" + exif(rng)))
    if rng.random() < 0.8:
        said += _split(APP13, b"Photoshop 3.0\0", resources(rng), rng)
    if rng.random() < 0.8:
        said.append(Segment(APP1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(rng, rng.choice((0, 1, 1000, 60_000)))))
    if image.mode == "RGB" and rng.random() < 0.5:
        profile = icc()
        third = len(profile) // 3 + 1
        parts = [profile[i : i + third] for i in range(0, len(profile), third)]
        said += [Segment(APP2, b"ICC_PROFILE\0" + bytes((i, len(parts))) + p) for i, p in enumerate(parts, 1)]
    said += [Segment(COM, rng.choice(WORDS).encode()) for _ in range(rng.randrange(3))]
    jpeg = out.getvalue()
    return jpeg[:2] + b"".join(segment.encoded() for segment in said) + jpeg[2:]


def _split(marker: int, heading: bytes, body: bytes, rng: random.Random) -> list[Segment]:
    """The body divided into segments at arbitrary positions."""
    room = rng.choice((200, 5000, 65_000))
    return [Segment(marker, heading + body[at : at + room]) for at in range(0, len(body), room)]


def _png(image: Image.Image, rng: random.Random) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    png, chunks = out.getvalue(), b""
    for keyword in rng.sample(("Title", "Author", "Copyright", "Source", "Comment"), rng.randrange(5)):
        word = rng.choice(WORDS)
        form = rng.randrange(3)
        if form == 0:
            chunks += _chunk(b"tEXt", keyword.encode() + b"\0" + word.encode("latin-1", "replace"))
        if form == 1:
            packed = zlib.compress(word.encode("latin-1", "replace"))
            chunks += _chunk(b"zTXt", keyword.encode() + b"\0\0" + packed)
        if form == 2:
            chunks += _chunk(b"iTXt", keyword.encode() + b"\0\0\0de\0\0" + word.encode())
    if rng.random() < 0.6:
        chunks += _chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(rng))
    if rng.random() < 0.6:
        chunks += _chunk(b"eXIf", exif(rng))
    if image.mode == "RGB" and rng.random() < 0.5:
        chunks = _chunk(b"iCCP", b"profile\0\0" + zlib.compress(icc())) + chunks
    if rng.random() < 0.3:
        body = resources(rng)
        text = b"\n8bim\n%8d\n%b\n" % (len(body), body.hex().encode())
        chunks += _chunk(b"zTXt", b"Raw profile type 8bim\0\0" + zlib.compress(text))
    return png[:33] + chunks + png[33:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _tiff(image: Image.Image, rng: random.Random) -> bytes:
    """A TIFF, whose directory holds the tags that other formats have in EXIF."""
    tags = Image.Exif()
    for tag in rng.sample(_TEXTS, rng.randrange(1, 8)):
        tags[tag] = rng.choice(WORDS).encode("ascii", "ignore").decode() or "?"
    tags.get_ifd(0x8769)[0x9003] = "1931:05:06 10:00:00"
    if rng.random() < 0.7:
        tags[700] = xmp(rng)
    if rng.random() < 0.7:
        tags[34377] = resources(rng)
    if rng.random() < 0.7:
        tags[33723] = iptc(rng)
    options = {"icc_profile": icc()} if image.mode == "RGB" and rng.random() < 0.5 else {}
    out = io.BytesIO()
    image.save(out, "TIFF", exif=tags, compression=rng.choice(("raw", "tiff_lzw", "tiff_deflate")), **options)
    return out.getvalue()


def _jp2_box(rng: random.Random) -> bytes:
    packet = bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + xmp(rng)
    return struct.pack(">I", len(packet) + 8) + b"uuid" + packet


def exif(rng: random.Random) -> bytes:
    """An EXIF block of either byte order whose thumbnail pointers are right, wrong, or absent."""
    order = rng.choice("<>")
    inner, gps = _texts(rng, _INNER), _texts(rng, _GPS)
    first = _texts(rng, _TEXTS)
    thumbnail = b"\xff\xd8" + rng.randbytes(rng.randrange(20, 400)) + b"\xff\xd9"
    head = 8 + 2 + 12 * (len(first) + 2) + 4
    body = b"".join(first.values())
    at_inner = head + len(body)
    block_inner = _directory(order, at_inner, inner)
    at_gps = at_inner + len(block_inner)
    block_gps = _directory(order, at_gps, gps)
    at_second = at_gps + len(block_gps)
    at_image = at_second + 2 + 24 + 4
    start, length = rng.choice(
        (
            (at_image, len(thumbnail)),
            (rng.randrange(2**32), 400),
            (rng.randrange(600), rng.randrange(2**32)),
            (12, 300),
        )
    )
    directory = _directory(order, 8, first, {0x8769: at_inner, 0x8825: at_gps}, next_at=at_second)
    second = struct.pack(order + "H", 2)
    second += struct.pack(order + "HHII", 0x201, 4, 1, start) + struct.pack(order + "HHII", 0x202, 4, 1, length)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "I", 8) + directory + block_inner + block_gps + second + bytes(4) + thumbnail


def _texts(rng: random.Random, tags: tuple[int, ...]) -> dict[int, bytes]:
    """A value of an even number of bytes, too long for an entry, for some of the tags."""
    chosen = sorted(rng.sample(tags, rng.randrange(1, len(tags) + 1)))
    values = {tag: rng.choice(WORDS).encode("ascii", "ignore") + b"text\0" for tag in chosen}
    return {tag: value + bytes(len(value) % 2) for tag, value in values.items()}


def _directory(
    order: str, at: int, texts: dict[int, bytes], pointers: dict[int, int] | None = None, next_at: int = 0
) -> bytes:
    count = len(texts) + len(pointers or {})
    place = at + 2 + 12 * count + 4
    entries, body = dict[int, bytes](), b""
    for tag, value in texts.items():
        entries[tag] = struct.pack(order + "HHII", tag, 2, len(value), place + len(body))
        body += value
    for tag, pointed in (pointers or {}).items():
        entries[tag] = struct.pack(order + "HHII", tag, 4, 1, pointed)
    joined = b"".join(entry for _, entry in sorted(entries.items()))
    return struct.pack(order + "H", count) + joined + struct.pack(order + "I", next_at) + body


def iptc(rng: random.Random) -> bytes:
    """Datasets of the application record, the first of which declares UTF-8."""
    found = b"\x1c\x01\x5a\0\3\x1b%G"
    for number in sorted(rng.sample(_DATASETS, rng.randrange(1, 10))):
        text = rng.choice(WORDS).encode()[:60]
        found += bytes((0x1C, 2, number)) + struct.pack(">H", len(text)) + text
    return found


def resources(rng: random.Random) -> bytes:
    """Photoshop resources in any order: IPTC, a thumbnail, a resolution, an unknown one that may be large."""
    thumbnail = struct.pack(">IIIIIIHH", 1, 80, 60, 240, 14400, 400, 24, 1) + b"\xff\xd8" + rng.randbytes(399)
    listed = [
        (1028, iptc(rng)),
        (rng.choice((1033, 1036)), thumbnail),
        (1005, struct.pack(">IHHIHH", 300 << 16, 1, 1, 300 << 16, 1, 1)),
        (rng.choice((1062, 1064, 4000)), rng.randbytes(rng.choice((8, 900, 70_000)))),
    ]
    rng.shuffle(listed)
    chosen = listed[: rng.randrange(1, 5)]
    return b"".join(
        b"8BIM" + struct.pack(">HHI", number, 0, len(data)) + data + bytes(len(data) % 2) for number, data in chosen
    )


def xmp(rng: random.Random, padding: int = 0) -> bytes:
    """A packet with properties as attributes, elements, lists and in several languages; some of them stale."""
    dc, ps, xap = (
        "http://purl.org/dc/elements/1.1/",
        "http://ns.adobe.com/photoshop/1.0/",
        "http://ns.adobe.com/xap/1.0/",
    )

    def word() -> str:
        return escape(rng.choice(WORDS[:-1]))

    choices = [
        f"<dc:title><rdf:Alt><rdf:li xml:lang='x-default'>{word()}</rdf:li></rdf:Alt></dc:title>",
        f"<dc:subject><rdf:Bag><rdf:li>{word()}</rdf:li><rdf:li>{word()}</rdf:li></rdf:Bag></dc:subject>",
        f"<photoshop:City>{word()}</photoshop:City>",
        f"<xmp:Label>{word()}</xmp:Label>",
        f"<dc:source>{word()}</dc:source>",
        f"<xmp:CreatorTool>{word()}</xmp:CreatorTool>",
        "<xmp:Thumbnails><rdf:Alt><rdf:li rdf:parseType='Resource'><xmpGImg:width "
        "xmlns:xmpGImg='http://ns.adobe.com/xap/1.0/g/img/'>8</xmpGImg:width></rdf:li></rdf:Alt></xmp:Thumbnails>",
    ]
    said = "".join(rng.sample(choices, rng.randrange(1, len(choices) + 1)))
    packet = (
        f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        f'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:dc="{dc}" '
        f'xmlns:photoshop="{ps}" xmlns:xmp="{xap}">{said}</rdf:Description></rdf:RDF></x:xmpmeta>'
    )
    return packet.encode() + b" " * padding + b'<?xpacket end="w"?>'


def icc() -> bytes:
    """An RGB profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
