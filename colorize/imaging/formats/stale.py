"""Removes XMP properties that are not valid for a colored copy.

Previews show the source. The color mode is no longer grey. Gain maps, depth maps and motion images are not copied. A
signed claim (C2PA) is only valid for the source's bytes.
"""

from __future__ import annotations

from colorize.imaging.formats.xmp import Name, Packet

_XMP, _PHOTOSHOP = "http://ns.adobe.com/xap/1.0/", "http://ns.adobe.com/photoshop/1.0/"
_TIFF = "http://ns.adobe.com/tiff/1.0/"
_CAMERA = "http://ns.google.com/photos/1.0/camera/"
_NAMESPACES = (
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.apple.com/HDRGainMap/1.0/",
    "http://ns.apple.com/pixeldatainfo/1.0/",
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/1.0/container/item/",
    "http://ns.google.com/photos/1.0/image/",
    "http://ns.google.com/photos/1.0/depthmap/",
    "http://ns.google.com/photos/1.0/audio/",
)
_PROPERTIES = (
    Name(_XMP, "xmp", "Thumbnails"),
    Name("http://purl.org/dc/terms/", "dcterms", "provenance"),  # location of a C2PA claim
)
_SAMPLE_PROPERTIES = (
    Name(_PHOTOSHOP, "photoshop", "ColorMode"),
    Name(_PHOTOSHOP, "photoshop", "ICCProfile"),
    Name(_TIFF, "tiff", "SamplesPerPixel"),
    Name(_TIFF, "tiff", "BitsPerSample"),
    Name(_TIFF, "tiff", "PhotometricInterpretation"),
)
_GREY = ("0", "1")  # values that mean grey or bilevel
_MOTION = ("MotionPhoto", "MicroVideo")


def remove_stale(packet: Packet, was_rgb: bool) -> None:
    """Removes these properties; those about samples are kept if the source was RGB and none of them means grey."""
    for namespace in _NAMESPACES:
        packet.remove_namespace(namespace)
    for start in _MOTION:
        packet.remove_starting(_CAMERA, start)
    keep_samples = was_rgb and not any(packet.get(name) in _GREY for name in _SAMPLE_PROPERTIES)
    for name in (*_PROPERTIES, *(() if keep_samples else _SAMPLE_PROPERTIES)):
        packet.remove_starting(name.namespace, name.local)
