"""XMP packets: checked, corrected for an enlargement, and told what was done to the photo.

A packet is edited as text, between places that a parser finds: reading it into a tree and writing it out
again would rename prefixes, drop comments and break names inside values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from srbatch.provenance import Provenance

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_BASIC = "http://ns.adobe.com/xap/1.0/"
_MEDIA = "http://ns.adobe.com/xap/1.0/mm/"
_EVENT = "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
_REFERENCE = "http://ns.adobe.com/xap/1.0/sType/ResourceRef#"
_TIFF = "http://ns.adobe.com/tiff/1.0/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"

_Name = tuple[str, str]
"""Namespace and local name."""

_PREFIXES = {_MEDIA: "xmpMM", _IPTC: "Iptc4xmpExt"}
_SOURCE_TYPE: _Name = (_IPTC, "DigitalSourceType")
_INSTANCE: _Name = (_MEDIA, "InstanceID")
_DOCUMENT: _Name = (_MEDIA, "DocumentID")
_DERIVED_FROM: _Name = (_MEDIA, "DerivedFrom")
_HISTORY: _Name = (_MEDIA, "History")
_THUMBNAILS: _Name = (_BASIC, "Thumbnails")
_ORIENTATION: _Name = (_TIFF, "Orientation")
_SIZES: dict[_Name, str] = {
    (_TIFF, "ImageWidth"): "width",
    (_TIFF, "ImageLength"): "height",
    (_EXIF, "PixelXDimension"): "width",
    (_EXIF, "PixelYDimension"): "height",
}

_LISTS = frozenset([(_RDF, "Seq"), (_RDF, "Bag"), (_RDF, "Alt")])

_EMPTY_PACKET = (
    '<?xpacket begin="\N{ZERO WIDTH NO-BREAK SPACE}" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">\n'
    '</rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
).encode()
_PACKET_END = b"<?xpacket end"
_RDF_END = re.compile(rb"</(?:[^\s:>]+:)?RDF\s*>")
_LIST_END = re.compile(rb"</(?:[^\s:>]+:)?(?:Seq|Bag|Alt)\s*>")
_TAG_NAME = re.compile(rb"<[^\s/>]+")
_ATTRIBUTE = re.compile(rb"\s+([^\s=]+)\s*=\s*(?:\"[^\"]*\"|'[^']*')")


class UnusableXmp(ValueError):
    """A packet that cannot be corrected, and so must not be carried: it would contradict the output."""


def check(packet: bytes) -> None:
    """Find out whether a packet can be corrected.

    Raises:
        UnusableXmp: it cannot; the message goes on from "the XMP packet".
    """
    _Properties(packet)


def corrected(
    packet: bytes | None, *, width: int, height: int, turned: bool, provenance: Provenance | None
) -> bytes | None:
    """The packet of an enlargement: its size, no thumbnail, and its provenance; None for no packet.

    Sizes and orientation that the packet does not have are not added.

    Args:
        packet: of the photo; None if it has none.
        width: of the output, in pixels.
        height: of the output, in pixels.
        turned: whether the output stands upright whatever the packet says of orientation. Where nothing
            asked for a turn but XMP, viewers disagree on whether XMP may, and the output stays as it was to
            each of them.
        provenance: None declares nothing.

    Raises:
        UnusableXmp: see :func:`check`.
    """
    if packet is None:
        if provenance is None:
            return None
        packet = _EMPTY_PACKET
    properties = _Properties(packet)
    size = {"width": width, "height": height}
    values = {name: str(size[side]) for name, side in _SIZES.items()}
    if turned:
        values[_ORIENTATION] = "1"
    new: dict[_Name, str] = {}
    if provenance is not None:
        values |= {_SOURCE_TYPE: provenance.source_type, _INSTANCE: provenance.instance}
        new = _history_and_origin(properties, provenance)
        new |= {name: _element(name, _plain(values[name])) for name in (_SOURCE_TYPE, _INSTANCE)}
    return _edited(properties, values, new)


def _edited(properties: _Properties, values: Mapping[_Name, str], new: dict[_Name, str]) -> bytes:
    """The packet with other ``values`` for properties that it has, and ``new`` ones for those it has not.

    Of History, its list is continued.
    """
    packet, result, at = properties.packet, bytearray(), 0
    for found in properties.found:
        if found.name == _HISTORY and _HISTORY in new:
            if found.list_end < 0:  # it holds no list, and so says nothing
                result += packet[at : found.start]
                at = found.end
                continue
            result += packet[at : found.list_end] + new.pop(_HISTORY).encode()
            at = found.list_end
        elif found.name in values or found.name == _THUMBNAILS:
            result += packet[at : found.start]
            at = found.end
            if found.name in values:
                result += found.with_value(values[found.name])
                new.pop(found.name, None)
    result += packet[at : properties.rdf_end]
    if _HISTORY in new:
        new[_HISTORY] = _element(_HISTORY, f"<rdf:Seq>{new[_HISTORY]}</rdf:Seq>")
    if new:
        result += _description("".join(new.values()), properties.about).encode()
    return bytes(result + packet[properties.rdf_end :])


def without_padding(packet: bytes) -> bytes:
    """Blanks before the end of a packet leave room for programs that edit it in place."""
    end = packet.rfind(_PACKET_END)
    return packet[:end].rstrip() + b"\n" + packet[end:] if end >= 0 else packet.rstrip()


# ---- what was done -------------------------------------------------------------------------------
#
# The properties of xmpMM, and the fields of ResourceEvent and ResourceRef, are those of ISO 16684-1. No time
# is written: the same photo shall always give the same bytes, and the file has a date.


def _history_and_origin(properties: _Properties, provenance: Provenance) -> dict[_Name, str]:
    """An event for the history, and a reference to the photo unless the packet has one to its own origin."""
    earlier = properties.value(_SOURCE_TYPE)
    parameters = f"{provenance.parameters}; source sha256 {provenance.source_sha256}"
    if earlier:
        parameters += f"; digital source type before: {earlier}"
    event = {
        "action": provenance.action,
        "softwareAgent": provenance.software,
        "instanceID": provenance.instance,
        "parameters": parameters,
    }
    made = {_HISTORY: _structure("rdf:li", "stEvt", _EVENT, event)}
    if properties.value(_DERIVED_FROM) is None:
        origin = {"instanceID": properties.value(_INSTANCE) or f"sha256:{provenance.source_sha256}"}
        if document := properties.value(_DOCUMENT):
            origin["documentID"] = document
        made[_DERIVED_FROM] = _structure("xmpMM:DerivedFrom", "stRef", _REFERENCE, origin)
    return made


def _structure(tag: str, prefix: str, space: str, fields: Mapping[str, str]) -> str:
    """An element of fields. It declares its prefixes anew: those of the packet may mean something else."""
    declared = f'xmlns:rdf="{_RDF}" xmlns:xmpMM="{_MEDIA}" xmlns:{prefix}="{space}"'
    body = "".join(f"<{prefix}:{key}>{_plain(text)}</{prefix}:{key}>" for key, text in fields.items())
    return f'<{tag} {declared} rdf:parseType="Resource">{body}</{tag}>\n'


def _element(name: _Name, content: str) -> str:
    space, local = name
    tag = f"{_PREFIXES[space]}:{local}"
    return f'<{tag} xmlns:rdf="{_RDF}" xmlns:{_PREFIXES[space]}="{space}">{content}</{tag}>\n'


def _plain(text: str) -> str:
    """Text for an element, in ASCII: a packet may be in any encoding that contains it."""
    return escape(text).encode("ascii", "xmlcharrefreplace").decode()


def _description(properties: str, about: str) -> str:
    return (
        f'<rdf:Description xmlns:rdf="{_RDF}" rdf:about={quoteattr(about)}>\n{properties}</rdf:Description>\n'
    )


# ---- reading -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Property:
    """A property as it stands in a packet."""

    name: _Name
    written_as: bytes
    start: int
    end: int
    is_attribute: bool
    value: str
    """Of a simple property; of all others the text outside the elements in it."""
    list_end: int = -1
    """Where the end tag of the list in it stands; -1 if there is none."""

    def with_value(self, value: str) -> bytes:
        """The same property with another value. It declares its prefix anew: the old tag may have done so."""
        if self.is_attribute:
            return b" " + self.written_as + b"=" + quoteattr(value).encode()
        prefix, _, _ = self.written_as.rpartition(b":")
        declared = b"xmlns:" + prefix if prefix else b"xmlns"
        space = quoteattr(self.name[0]).encode()
        return b"<%b %b=%b>%b</%b>" % (
            self.written_as,
            declared,
            space,
            escape(value).encode(),
            self.written_as,
        )


class _Properties:
    """Where in an XMP packet its top-level properties stand."""

    def __init__(self, packet: bytes) -> None:
        if packet.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise UnusableXmp("is not in UTF-8")
        self.packet = packet
        self.found: list[_Property] = []
        self.about = ""
        self.rdf_end = -1
        self._open: list[_Name] = []
        self._started = 0
        self._value = ""
        self._list_end = -1
        self._parser = parser = expat.ParserCreate(namespace_separator=" ")
        parser.namespace_prefixes = True
        parser.ordered_attributes = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        try:
            parser.Parse(packet.rstrip(b"\0"), True)  # zeros: some writers of TIFF pad with them
        except expat.ExpatError as error:
            raise UnusableXmp(f"is not well-formed ({error})") from None
        if self.rdf_end < 0:
            raise UnusableXmp("holds no properties")

    def value(self, name: _Name) -> str | None:
        """What a property says; None if the packet does not have it."""
        return next((found.value for found in self.found if found.name == name), None)

    def _refuse_doctype(self, *_: object) -> None:
        # XMP has none. It could define entities that grow without bound in whoever reads the output.
        raise UnusableXmp("has a document type declaration, which XMP forbids,")

    def _start(self, name: str, attributes: list[str]) -> None:
        self._open.append(_split(name))
        if self._is_property(1):
            self._note_attributes(attributes)
        elif self._is_property(2):
            self._started, self._list_end = self._parser.CurrentByteIndex, -1
            resources = zip(attributes[::2], attributes[1::2], strict=True)
            self._value = next((uri for key, uri in resources if _split(key) == (_RDF, "resource")), "")

    def _text(self, text: str) -> None:
        if self._is_property(2):
            self._value += text

    def _is_property(self, depth: int) -> bool:
        """Whether the innermost element is a Description (1) or a property (2) right below rdf:RDF."""
        if (_RDF, "RDF") not in self._open[: len(self._open) - depth]:
            return False
        return self._open.index((_RDF, "RDF")) == len(self._open) - 1 - depth

    def _note_attributes(self, attributes: list[str]) -> None:
        """A simple property may be an attribute of its Description."""
        names: dict[bytes, tuple[_Name, str]] = {}
        for expanded, value in zip(attributes[::2], attributes[1::2], strict=True):
            space, local = _split(expanded)
            prefix = expanded.split(" ")[2] + ":" if expanded.count(" ") == 2 else ""
            names[f"{prefix}{local}".encode()] = ((space, local), value)
            if (space, local) in ((_RDF, "about"), ("", "about")):
                self.about = value
        for attribute in self._attributes(self._parser.CurrentByteIndex):
            if attribute[1] in names:
                name, value = names[attribute[1]]
                self.found.append(
                    _Property(name, attribute[1], attribute.start(), attribute.end(), True, value)
                )

    def _attributes(self, tag_at: int) -> Iterator[re.Match[bytes]]:
        tag = _TAG_NAME.match(self.packet, tag_at)
        at = tag.end() if tag else len(self.packet)
        while attribute := _ATTRIBUTE.match(self.packet, at):
            yield attribute
            at = attribute.end()

    def _end(self, _: str) -> None:
        at = self._parser.CurrentByteIndex
        if self._is_property(2):
            tag = _TAG_NAME.match(self.packet, self._started)
            written_as = tag[0][1:] if tag else b""
            end = self._after_element(at)
            name, value = self._open[-1], self._value.strip()
            self.found.append(_Property(name, written_as, self._started, end, False, value, self._list_end))
        elif self._is_property(3) and self._open[-1] in _LISTS and _LIST_END.match(self.packet, at):
            self._list_end = at
        elif self._is_property(0) and _RDF_END.match(self.packet, at):
            self.rdf_end = at
        self._open.pop()

    def _after_element(self, end_tag_at: int) -> int:
        """The end of the property that started last; an empty one has no tag at its end."""
        start_tag_end = self.packet.index(b">", self._after_attributes())
        if self.packet[start_tag_end - 1 : start_tag_end] == b"/":
            return start_tag_end + 1
        return self.packet.index(b">", end_tag_at) + 1

    def _after_attributes(self) -> int:
        at = self._started
        for attribute in self._attributes(self._started):
            at = attribute.end()
        return at


def _split(name: str) -> _Name:
    """A name as expat gives it: ``namespace local prefix``, the last one or two perhaps missing."""
    parts = name.split(" ")
    return (parts[0], parts[1]) if len(parts) > 1 else ("", parts[0])
