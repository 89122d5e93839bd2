"""What a picture file says besides its pixels, and the words that every colored copy adds to it.

The colored copy keeps EXIF (orientation included), XMP, resolution, text and a profile of RGB color; a grey
profile is left out, since it cannot describe an RGB picture. The scanner's own words are never overwritten.

Where the provenance is written, so that the color is never taken for the scan's:

| format    | machine-readable                        | plain sentence |
| --------- | --------------------------------------- | -------------- |
| JPEG      | XMP (APP1, merged into the file's own)  | COM segment, after the file's own |
| PNG       | XMP (iTXt)                              | tEXt `Comment` |
| TIFF      | XMP (tag 700)                           | ImageDescription, where the file has none |
| WebP      | XMP chunk                               | |
| JPEG 2000 | XMP (`uuid` box; not in a bare codestream) | COM segment of the codestream |
| BMP       | nowhere: the format holds no metadata   | |

The XMP properties are in the namespace `urn:colorize:provenance:1.0/`; `Iptc4xmpExt:DigitalSourceType` says the
same in the vocabulary of the IPTC (NewsCodes, "composite with trained algorithmic media").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import quoteattr

NAMESPACE = "urn:colorize:provenance:1.0/"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the colors of a picture come from. Hashes are hexadecimal SHA-256."""

    model: str
    model_sha256: str
    source: str
    source_sha256: str

    @property
    def sentence(self) -> str:
        """The plain sentence that viewers show."""
        return (
            f"Colors inferred by {self.model} (sha256 {self.model_sha256}) "
            f"from {self.source} (sha256 {self.source_sha256}); luminance as scanned."
        )

    def xmp(self, existing: bytes | None = None) -> bytes:
        """An XMP packet that says so: the file's own with one description more, or a new one."""
        description = self._description().encode()
        end = b"</rdf:RDF>"
        if existing and existing.count(end) == 1:
            return existing.replace(end, description + end)
        return (
            b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>'
            b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="' + _RDF.encode() + b'">'
            + description + end + b'</x:xmpmeta><?xpacket end="w"?>'
        )  # fmt: skip

    def _description(self) -> str:
        properties = {
            "colorize:Statement": self.sentence,
            "colorize:Model": self.model,
            "colorize:ModelSHA256": self.model_sha256,
            "colorize:Source": self.source,
            "colorize:SourceSHA256": self.source_sha256,
            "Iptc4xmpExt:DigitalSourceType": _SOURCE_TYPE,
        }
        written = " ".join(f"{name}={quoteattr(_printable(value))}" for name, value in properties.items())
        return f'<rdf:Description rdf:about="" xmlns:colorize="{NAMESPACE}" xmlns:Iptc4xmpExt="{_IPTC}" {written}/>'


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata as Pillow reads it, for the formats whose own blocks are not carried over one by one."""

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: dict[str, str] = field(default_factory=dict)


def read_metadata(info: dict[Any, Any]) -> Metadata:
    """Pick what is carried over from Pillow's `image.info`."""
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    icc = info.get("icc_profile")
    dpi = info.get("dpi")
    comment = info.get("comment")
    return Metadata(
        exif=info.get("exif") or None,
        icc=icc if is_rgb_profile(icc) else None,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp or None,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi else None,
        text={"Comment": _text(comment)} if comment else {},
    )


def is_rgb_profile(icc: bytes | None) -> bool:
    """Whether an ICC profile describes RGB data (ICC.1:2022, header bytes 16 to 19)."""
    return bool(icc) and icc is not None and icc[16:20] == b"RGB "


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _printable(value: str) -> str:
    """XML 1.0 has no place for control characters and lone surrogates, which file names may have."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value)
