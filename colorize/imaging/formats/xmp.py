"""Reads, adds and removes properties of XMP packets (ISO 16684-1); everything else is unchanged."""

from __future__ import annotations

from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from xml.dom import minidom
from xml.parsers.expat import ExpatError, ParserCreate
from xml.sax.saxutils import escape

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_PACKET = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">%s</rdf:RDF></x:xmpmeta>'
_BEGIN = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>'
_END = b'<?xpacket end="w"?>'
_QUOTE = {'"': "&quot;"}
_PADDING = b"\0 \t\r\n"
_MAX_BYTES, _MAX_ELEMENTS, _MAX_DEPTH = 16 << 20, 200_000, 100  # an element takes about a kilobyte in memory


class Name(NamedTuple):
    """A property's name: its namespace, the namespace's usual prefix, and the local name."""

    namespace: str
    prefix: str
    local: str


class Packet:
    """A mutable XMP packet. A damaged, missing or malicious packet is treated as empty."""

    def __init__(self, data: bytes | None) -> None:
        self._document = _parsed(data) or minidom.parseString(_PACKET % "")
        self._rdf = _find_rdf(self._document)

    def get(self, name: Name) -> str | None:
        """The value of a simple property, or None."""
        for description in self._descriptions():
            if description.hasAttributeNS(name.namespace, name.local):
                return str(description.getAttributeNS(name.namespace, name.local))
            for child in _elements(description):
                if _is(child, name):
                    return "".join(c.data for c in child.childNodes if isinstance(c, minidom.Text))
        return None

    def remove(self, name: Name) -> None:
        """Remove a property."""
        for description in self._descriptions():
            if description.hasAttributeNS(name.namespace, name.local):
                description.removeAttributeNS(name.namespace, name.local)
            for child in [c for c in _elements(description) if _is(c, name)]:
                description.removeChild(child)

    def remove_namespace(self, namespace: str) -> None:
        """Remove all properties of a namespace, and descriptions that become empty."""
        self.remove_starting(namespace, "")

    def remove_starting(self, namespace: str, start: str) -> None:
        """Remove properties of a namespace whose names begin with `start`, and descriptions that become empty."""
        for description in self._descriptions():
            attributes = [a for a in dict(description.attributes.items()) if a.split(":")[0] != "xmlns"]
            for key in attributes:
                found = description.attributes[key]
                if found.namespaceURI == namespace and str(found.localName).startswith(start):
                    description.removeAttribute(key)
            for child in [c for c in _elements(description) if c.namespaceURI == namespace]:
                if str(child.localName).startswith(start):
                    description.removeChild(child)
            if _is_empty(description):
                self._rdf.removeChild(description)

    def add(self, values: Mapping[Name, str]) -> None:
        """Add simple properties in a new description; characters that are invalid in XML are replaced."""
        description = self._document.createElementNS(_RDF, f"{self._rdf.prefix or 'rdf'}:Description")
        if self._rdf.prefix is None:
            description.setAttribute("xmlns:rdf", _RDF)
        description.setAttributeNS(_RDF, f"{self._rdf.prefix or 'rdf'}:about", self._about())
        for name, value in values.items():
            description.setAttribute(f"xmlns:{name.prefix}", name.namespace)
            description.setAttributeNS(name.namespace, f"{name.prefix}:{name.local}", _printable(value))
        self._rdf.appendChild(description)

    def include(self, other: Packet) -> None:
        """Add all descriptions of another packet."""
        for description in other._descriptions():
            self._rdf.appendChild(self._document.importNode(_self_contained(description), deep=True))

    def split(self) -> tuple[Packet, bytes]:
        """The last description, added by `add`, as a packet, and the others as an extension without a wrapper."""
        last = self._descriptions()[-1]
        main = Packet(None)
        main._rdf.appendChild(main._document.importNode(_self_contained(last), deep=True))
        self._rdf.removeChild(last)
        root = self._document.documentElement
        assert root is not None
        return main, root.toxml().encode()

    def encoded(self) -> bytes | None:
        """The packet as bytes; None if it is empty."""
        if all(_is_empty(d) for d in self._descriptions()):
            return None
        root = self._document.documentElement
        return _BEGIN + root.toxml().encode() + _END if root else None

    def _descriptions(self) -> list[minidom.Element]:
        return [e for e in _elements(self._rdf) if (e.namespaceURI, e.localName) == (_RDF, "Description")]

    def _about(self) -> str:
        """The `rdf:about` of the packet's descriptions, which must be the same for all."""
        return next((str(d.getAttributeNS(_RDF, "about")) for d in self._descriptions()), "")


def new_packet(values: Mapping[Name, str]) -> bytes:
    """A packet of only these properties, as `Packet.add` writes it, without building a tree: most scans have no XMP."""
    attributes = {"rdf:about": ""}
    for name, value in values.items():
        attributes |= {f"xmlns:{name.prefix}": name.namespace, f"{name.prefix}:{name.local}": _printable(value)}
    written = "".join(f' {key}="{escape(value, _QUOTE)}"' for key, value in attributes.items())
    return _BEGIN + (_PACKET % f"<rdf:Description{written}/>").encode() + _END


def _parsed(data: bytes | None) -> minidom.Document | None:
    if not data or len(data) > _MAX_BYTES:
        return None
    packet = data if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else data.strip(_PADDING)
    try:
        _check_limits(packet)
        document = minidom.parseString(packet)
        _find_rdf(document)
    except (ExpatError, ValueError, LookupError):
        return None
    return document


def _check_limits(packet: bytes) -> None:
    """Checks a packet in any encoding, before a tree of objects is built from it.

    Raises ValueError for a document type, whose entities may expand exponentially and which XMP does not have, and for
    excessive numbers of elements or nesting levels. `defusedxml` only refuses the former.
    """
    depth = elements = 0

    def start(name: str, attributes: Mapping[str, str]) -> None:
        nonlocal depth, elements
        depth, elements = depth + 1, elements + 1 + len(attributes)
        if depth > _MAX_DEPTH or elements > _MAX_ELEMENTS:
            raise ValueError("XMP of too many elements")

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1

    def refuse(*declaration: object) -> None:
        raise ValueError("XMP with a document type")

    parser = ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.StartDoctypeDeclHandler = start, end, refuse
    parser.Parse(packet, True)


def _find_rdf(document: minidom.Document) -> minidom.Element:
    """The RDF element; LookupError without one."""
    found = document.getElementsByTagNameNS(_RDF, "RDF")
    return found[0]


def _elements(parent: minidom.Element) -> Iterator[minidom.Element]:
    return (node for node in list(parent.childNodes) if isinstance(node, minidom.Element))


def _is(element: minidom.Element, name: Name) -> bool:
    return (element.namespaceURI, element.localName) == (name.namespace, name.local)


def _is_empty(description: minidom.Element) -> bool:
    attributes = [
        a for a in dict(description.attributes.items()) if a.split(":")[0] != "xmlns" and not a.endswith(":about")
    ]
    return not attributes and not any(_elements(description))


def _self_contained(description: minidom.Element) -> minidom.Element:
    """The description with the namespaces that its ancestors declare for it."""
    node = description.parentNode
    while isinstance(node, minidom.Element):
        for key, value in dict(node.attributes.items()).items():
            if key.split(":")[0] == "xmlns" and not description.hasAttribute(key):
                description.setAttributeNS("http://www.w3.org/2000/xmlns/", key, value)
        node = node.parentNode
    return description


def _printable(value: str) -> str:
    """XML 1.0 has no place for control characters and lone surrogates, which file names may have."""
    return (
        value if value.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value)
    )
