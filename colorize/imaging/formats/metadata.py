"""What an image file says besides its pixels, and the words that every colored copy adds to it.

The colored copy keeps EXIF (orientation included; without the thumbnail, which shows the source), IPTC, XMP,
resolution, text and color profile; a grey profile becomes the equivalent one for RGB (`icc`). What the scanner wrote
is never overwritten, with one exception: a digital source type, which would no longer be true, is set aside.

Where the provenance is written, so that the color is never taken for the scan's:

| format    | machine-readable                        | plain sentence |
| --------- | --------------------------------------- | -------------- |
| JPEG      | XMP (APP1, merged into the file's own)  | COM segment, after the file's own |
| PNG       | XMP (iTXt)                              | tEXt `Comment`, or `Disclaimer` where the file has a comment |
| TIFF      | XMP (tag 700)                           | ImageDescription, where the file has none |
| WebP      | XMP chunk                               | |
| JPEG 2000 | XMP (`uuid` box; not in a bare codestream) | COM segment of the codestream |
| BMP       | nowhere: the format holds no metadata   | |

The XMP properties are in the namespace `urn:colorize:provenance:1.0/`; `Iptc4xmpExt:DigitalSourceType` says the
same in the vocabulary of the IPTC (NewsCodes, "algorithmically enhanced" by default).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, Protocol

from colorize import __version__
from colorize.errors import printable
from colorize.imaging.formats.stale import remove_stale
from colorize.imaging.formats.xmp import Name, Packet

NAMESPACE = "urn:colorize:provenance:1.0/"
CREATOR_TOOL = f"colorize {__version__}"
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_TYPE = Name("http://iptc.org/std/Iptc4xmpExt/2008-02-29/", "Iptc4xmpExt", "DigitalSourceType")
_TOOL = Name("http://ns.adobe.com/xap/1.0/", "xmp", "CreatorTool")
_SENTENCE_START, _SENTENCE_ENDS = "Colors inferred by ", ("luminance as scanned.", "luminance nearly as scanned.")


class Words(Protocol):
    """What a copy says about itself, in place of what its source says."""

    @property
    def sentence(self) -> str:
        """The plain sentence that viewers show; empty for none."""

    def xmp(self, existing: bytes | None) -> bytes | None:
        """The copy's XMP packet, made from the source's; None for none."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the colors of an image come from. Hashes are hexadecimal SHA-256.

    Of a `model` that was given as a path only the last part is said: where it lies on somebody's machine is nobody
    else's concern, and the hash tells which it is.

    `digital_source_type` is a term of the IPTC's NewsCodes; `luma_exact` and `source_mode` (Pillow's mode of the
    source) are filled in when the image is written.
    """

    model: str
    model_sha256: str
    source: str
    source_sha256: str
    digital_source_type: str = "algorithmicallyEnhanced"
    luma_exact: bool = True
    source_mode: str = ""

    def of(self, mode: str, luma_exact: bool) -> Provenance:
        """The same for an image of this mode."""
        return replace(self, source_mode=mode, luma_exact=luma_exact)

    @property
    def sentence(self) -> str:
        """The plain sentence that viewers show."""
        return (
            f"{_SENTENCE_START}{self._model} (sha256 {self.model_sha256}) "
            f"from {printable(self.source)} (sha256 {self.source_sha256}); {_SENTENCE_ENDS[not self.luma_exact]}"
        )

    @property
    def _model(self) -> str:
        """`default`, `unet` for `runs/unet/`, `siggraph17=weights.pth` for `siggraph17=/home/me/weights.pth`."""
        architecture, equals, file = self.model.rpartition("=")
        return f"{architecture}{equals}{PurePath(file).name or file}"

    def xmp(self, existing: bytes | None = None) -> bytes:
        """An XMP packet that says so: the file's own with one description more, or a new one."""
        packet = Packet(Restored().xmp(existing))  # of a copy that is colored again, only the last colors count
        remove_stale(packet, was_rgb=self.source_mode.startswith("RGB"))
        values = {_own(name): value for name, value in self._properties().items()}
        before = packet.get(_TYPE)
        if before is not None:
            packet.remove(_TYPE)
            values[_own("OriginalDigitalSourceType")] = before
        values[_TYPE] = SOURCE_TYPES + self.digital_source_type
        if packet.get(_TOOL) is None:
            values[_TOOL] = CREATOR_TOOL
        packet.add(values)
        encoded = packet.encoded()
        assert encoded is not None  # it says at least what was just added
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
class Restored:
    """The words of an image whose inferred colors were taken out again: those that its source had."""

    sentence: str = ""

    def xmp(self, existing: bytes | None) -> bytes | None:
        """The packet without what `Provenance` added; None if nothing is left."""
        if not existing:
            return None
        packet = Packet(existing)
        tool, before = packet.get(_own("CreatorTool")), packet.get(_own("OriginalDigitalSourceType"))
        if tool is None:
            return existing
        if packet.get(_TOOL) == tool:
            packet.remove(_TOOL)
        packet.remove(_TYPE)
        packet.remove_namespace(NAMESPACE)
        if before is not None:
            packet.add({_TYPE: before})
        return packet.encoded()


@dataclass(frozen=True, slots=True)
class Origin:
    """What a colored copy's XMP says about its making: hashes are hexadecimal, `mode` is the source's."""

    source: str
    source_sha256: str
    mode: str
    luma_exact: bool


def read_origin(xmp: bytes | None) -> Origin | None:
    """What a colored copy of this program says about its source; None for any other image."""
    packet = Packet(xmp)
    said = [packet.get(_own(name)) for name in ("Source", "SourceSHA256", "SourceMode", "Luminance")]
    if said[3] is None:
        return None
    return Origin(said[0] or "", said[1] or "", said[2] or "", said[3] == "exact")


def is_own_sentence(text: str) -> bool:
    """Whether a comment is one that this program added."""
    return text.startswith(_SENTENCE_START) and text.rstrip("\0 ").endswith(_SENTENCE_ENDS)


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata as Pillow reads it, for the formats whose own blocks are not carried over one by one.

    `icc` is the file's own profile, of whatever kind of pixels; `iptc` a resource of Photoshop's.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: dict[str, str] = field(default_factory=dict)


def read_metadata(info: dict[Any, Any]) -> Metadata:
    """Pick what is carried over from Pillow's `image.info`."""
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


def _own(name: str) -> Name:
    return Name(NAMESPACE, "colorize", name)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
