"""Statements in XMP that hold for a source and not for its colored copy: they are taken out.

Previews show the source. Grey is no longer the color mode. Gain maps, depth maps and motion images stood in the
source behind its image. A signed claim (C2PA) was about the source's bytes.
"""

from __future__ import annotations

from colorize.imaging.formats.xmp import Name, Packet

_XMP, _PHOTOSHOP = "http://ns.adobe.com/xap/1.0/", "http://ns.adobe.com/photoshop/1.0/"
_TIFF = "http://ns.adobe.com/tiff/1.0/"
_CAMERA = "http://ns.google.com/photos/1.0/camera/"
_WHOLE = (
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.apple.com/HDRGainMap/1.0/",
    "http://ns.apple.com/pixeldatainfo/1.0/",
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/1.0/container/item/",
    "http://ns.google.com/photos/1.0/image/",
    "http://ns.google.com/photos/1.0/depthmap/",
    "http://ns.google.com/photos/1.0/audio/",
)  # namespaces of which nothing holds
_ALWAYS = (
    Name(_XMP, "xmp", "Thumbnails"),
    Name("http://purl.org/dc/terms/", "dcterms", "provenance"),  # where a C2PA claim lies
)
_OF_SAMPLES = (
    Name(_PHOTOSHOP, "photoshop", "ColorMode"),
    Name(_PHOTOSHOP, "photoshop", "ICCProfile"),
    Name(_TIFF, "tiff", "SamplesPerPixel"),
    Name(_TIFF, "tiff", "BitsPerSample"),
    Name(_TIFF, "tiff", "PhotometricInterpretation"),
)
_GREY = ("0", "1")  # one sample, or black or white is zero, or bilevel or grey
_MOTION = ("MotionPhoto", "MicroVideo")


def remove_stale(packet: Packet, was_rgb: bool) -> None:
    """Take such statements out; those about samples stay where the source was RGB, as its copy is, and says so."""
    for namespace in _WHOLE:
        packet.remove_namespace(namespace)
    for start in _MOTION:
        packet.remove_starting(_CAMERA, start)
    hold = was_rgb and not any(packet.get(name) in _GREY for name in _OF_SAMPLES)
    for name in (*_ALWAYS, *(() if hold else _OF_SAMPLES)):
        packet.remove_starting(name.namespace, name.local)
