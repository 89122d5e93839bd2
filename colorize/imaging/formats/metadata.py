"""The metadata of a colored copy: the source's, and the provenance of the color.

The copy keeps EXIF (including orientation; without the thumbnail, which shows the source), IPTC, XMP, resolution, text
and color profile; a grey profile is converted to RGB (`icc`). The source's values are never overwritten, except for
the digital source type, which is no longer true and moves to another property.

The provenance, which states that the color is not the scan's, is in:

| format    | machine-readable                        | plain sentence |
| --------- | --------------------------------------- | -------------- |
| JPEG      | XMP (APP1, merged with the source's)    | COM segment, after the source's |
| PNG       | XMP (iTXt)                              | tEXt `Comment`, or `Disclaimer` if the source has a comment |
| TIFF      | XMP (tag 700)                           | ImageDescription, if the source has none |
| WebP      | XMP chunk                               | |
| JPEG 2000 | XMP (`uuid` box; not in a bare codestream) | COM segment of the codestream |
| BMP       | none: the format has no metadata        | |

The XMP properties are in the namespace `urn:colorize:provenance:1.0/`; `Iptc4xmpExt:DigitalSourceType` is an IPTC
NewsCodes term ("algorithmically enhanced" by default).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import PurePath
from typing import Any, Protocol

from colorize import __version__
from colorize.errors import printable
from colorize.imaging.formats.stale import remove_stale
from colorize.imaging.formats.xmp import Name, Packet, new_packet

NAMESPACE = "urn:colorize:provenance:1.0/"
CREATOR_TOOL = f"colorize {__version__}"
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_TYPE = Name("http://iptc.org/std/Iptc4xmpExt/2008-02-29/", "Iptc4xmpExt", "DigitalSourceType")
_TOOL = Name("http://ns.adobe.com/xap/1.0/", "xmp", "CreatorTool")
_SENTENCE_START, _SENTENCE_ENDS = "Colors inferred by ", ("luminance as scanned.", "luminance nearly as scanned.")


class MetadataUpdate(Protocol):
    """The metadata that a copy adds or removes."""

    @property
    def sentence(self) -> str:
        """A plain sentence for viewers, or ""."""

    def xmp(self, existing: bytes | None) -> bytes | None:
        """The copy's XMP packet, from the source's; None if there is none."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """The provenance of an image's colors.

    Attributes:
        model: name or path, of which only the last part is written, for privacy.
        model_sha256: hexadecimal.
        source: name of the source.
        source_sha256: hexadecimal.
        digital_source_type: an IPTC NewsCodes term.
        luma_exact: set when the image is written.
        source_mode: Pillow's mode of the source, set when the image is written.
    """

    model: str
    model_sha256: str
    source: str
    source_sha256: str
    digital_source_type: str = "algorithmicallyEnhanced"
    luma_exact: bool = True
    source_mode: str = ""

    def for_image(self, mode: str, luma_exact: bool) -> Provenance:
        """The provenance for an image with this mode."""
        return replace(self, source_mode=mode, luma_exact=luma_exact)

    @property
    def sentence(self) -> str:
        """The plain sentence for viewers."""
        return (
            f"{_SENTENCE_START}{self._model} (sha256 {self.model_sha256}) "
            f"from {printable(self.source)} (sha256 {self.source_sha256}); {_SENTENCE_ENDS[not self.luma_exact]}"
        )

    @property
    def _model(self) -> str:
        """`default`, `unet` for `runs/unet/`, `siggraph17=weights.pth` for `siggraph17=/home/me/weights.pth`."""
        return _without_folders(self.model)

    def xmp(self, existing: bytes | None = None) -> bytes:
        """The XMP packet with an additional description, or a new packet."""
        values = {_property(name): value for name, value in self._properties().items()}
        kept = ProvenanceRemoval().xmp(existing)  # the provenance of an earlier coloring is replaced
        if kept is None:
            return new_packet(values | {_TYPE: SOURCE_TYPES + self.digital_source_type, _TOOL: CREATOR_TOOL})
        packet = Packet(kept)
        remove_stale(packet, was_rgb=self.source_mode.startswith("RGB"))
        original_type = packet.get(_TYPE)
        if original_type is not None:
            packet.remove(_TYPE)
            values[_property("OriginalDigitalSourceType")] = original_type
        values[_TYPE] = SOURCE_TYPES + self.digital_source_type
        if packet.get(_TOOL) is None:
            values[_TOOL] = CREATOR_TOOL
        packet.add(values)
        encoded = packet.encoded()
        assert encoded is not None  # it has at least the added description
        return encoded

    def _properties(self) -> dict[str, str]:
        return {
            "Statement": self.sentence,
            "CreatorTool": CREATOR_TOOL,
            "Model": self._model,
            "ModelSHA256": self.model_sha256,
            "Source": self.source,
            "SourceSHA256": self.source_sha256,
            "SourceMode": self.source_mode,
            "Luminance": "exact" if self.luma_exact else "approximate",
        }


@dataclass(frozen=True, slots=True)
class ProvenanceRemoval:
    """Removes the additions of `Provenance`, for an image whose inferred colors are removed."""

    sentence: str = ""

    def xmp(self, existing: bytes | None) -> bytes | None:
        """The source's packet; None if nothing is left."""
        if not existing:
            return None
        packet = Packet(existing)
        tool, original_type = packet.get(_property("CreatorTool")), packet.get(_property("OriginalDigitalSourceType"))
        if tool is None:
            return existing
        if packet.get(_TOOL) == tool:
            packet.remove(_TOOL)
        packet.remove(_TYPE)
        packet.remove_namespace(NAMESPACE)
        if original_type is not None:
            packet.add({_TYPE: original_type})
        return packet.encoded()


@dataclass(frozen=True, slots=True)
class Origin:
    """The provenance in a colored copy's XMP. The hash is hexadecimal, `mode` is the source's."""

    source: str
    source_sha256: str
    mode: str
    luma_exact: bool


def read_origin(xmp: bytes | None) -> Origin | None:
    """The origin in the XMP of a colored copy made by this program; None for other images."""
    packet = Packet(xmp)
    values = [packet.get(_property(name)) for name in ("Source", "SourceSHA256", "SourceMode", "Luminance")]
    if values[3] is None:
        return None
    return Origin(values[0] or "", values[1] or "", values[2] or "", values[3] == "exact")


def is_own_sentence(text: str) -> bool:
    """Whether a comment was added by this program."""
    return text.startswith(_SENTENCE_START) and text.rstrip("\0 ").endswith(_SENTENCE_ENDS)


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata as read by Pillow, for formats whose blocks are not copied individually.

    `icc` is the source's profile, for grey or RGB; `iptc` is a Photoshop resource.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: dict[str, str] = field(default_factory=dict)


def read_metadata(info: dict[Any, Any]) -> Metadata:
    """The metadata in Pillow's `image.info` that is copied."""
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    dpi = info.get("dpi")
    comment = info.get("comment")
    return Metadata(
        exif=info.get("exif") or None,
        icc=info.get("icc_profile") or None,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp or None,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi else None,
        text={"Comment": _text(comment)} if comment else {},
    )


@lru_cache(maxsize=1)  # a process has one model
def _without_folders(model: str) -> str:
    architecture, equals, file = model.rpartition("=")
    return f"{architecture}{equals}{PurePath(file).name or file}"


def _property(name: str) -> Name:
    return Name(NAMESPACE, "colorize", name)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
