"""Where the properties of an XMP packet stand, as a parser finds them."""

from __future__ import annotations

import codecs
import re
from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"

Name = tuple[str, str]
"""Namespace and local name."""

LISTS = frozenset([(RDF, "Seq"), (RDF, "Bag"), (RDF, "Alt")])

_RDF_NAME: Name = (RDF, "RDF")
_ROOT, _DESCRIPTION, _PROPERTY, _VALUE = 0, 1, 2, 3
"""Levels of elements: rdf:RDF itself, what is right below it, and so on."""
_RDF_END = re.compile(rb"</(?:[^\s:>]+:)?RDF\s*>")
_LIST_END = re.compile(rb"</(?:[^\s:>]+:)?(?:Seq|Bag|Alt)\s*>")
_TAG_NAME = re.compile(rb"<[^\s/>]+")
_ATTRIBUTE = re.compile(rb"\s+([^\s=]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")


# What a packet may cost in time and memory, far beyond any that a program writes: masks of raw developers
# have some 10,000 elements, and depths below 30.
_DEEPEST = 100
_MOST_ELEMENTS = 300_000
_MOST_ATTRIBUTES = 300_000
_MOST_NAMESPACES = 5_000
_MOST_PROPERTIES = 100_000
_BYTE_ORDER_MARKS = (
    *((codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be")),  # they begin like the next
    *((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")),
)
_CODECS = {
    b"\1\0\1\0": "utf-16-be",
    b"\0\1\0\1": "utf-16-le",
    b"\1\1\1\0": "utf-32-be",
    b"\0\1\1\1": "utf-32-le",
}
"""By which of the first four bytes are zeros (1): a packet begins with ASCII characters."""
_DECLARATION = re.compile(r"^\s*<\?xml\s[^>]*\?>")


class UnusableXmp(ValueError):
    """A packet that cannot be corrected, and so must not be carried: it would contradict the output."""


def in_utf8(packet: bytes) -> bytes:
    """The packet in UTF-8, in which it is edited; XMP allows UTF-16 and UTF-32 too (ISO 16684-1, 7.1).

    Raises:
        UnusableXmp: it is damaged.
    """
    codec = next((codec for mark, codec in _BYTE_ORDER_MARKS if packet.startswith(mark)), None)
    if codec is None:
        codec = _CODECS.get(bytes(byte == 0 for byte in packet[:4]))
    if codec is None:
        return packet
    unit = 4 if "32" in codec else 2
    try:
        # Writers of TIFF pad with single zeros.
        text = packet[: len(packet) // unit * unit].decode(codec).rstrip("\0")
    except UnicodeDecodeError as error:
        raise UnusableXmp(f"is damaged ({error.reason})") from None
    return _DECLARATION.sub("", text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}"), count=1).encode()


def new_parser() -> expat.XMLParserType:
    """A parser that tells names with their namespaces, and refuses what no packet may hold."""
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.namespace_prefixes = True
    parser.ordered_attributes = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    return parser


def parse(parser: expat.XMLParserType, packet: bytes) -> None:
    """Run a parser over a whole packet.

    Raises:
        UnusableXmp: it is not well-formed, or would take far more time or memory than packets do.
    """
    packet = packet.rstrip(b"\0")  # some writers of TIFF pad with them
    try:
        _check_bounds(packet)
        parser.Parse(packet, True)
    except expat.ExpatError as error:
        raise UnusableXmp(f"is not well-formed ({error})") from None


def _check_bounds(packet: bytes) -> None:
    """What a packet costs beyond its bytes; the parsers proper may be slow, and keep much."""
    if packet.count(b"<") > 2 * _MOST_ELEMENTS:
        raise UnusableXmp("has more elements than any packet")
    if packet.count(b"xmlns") > _MOST_NAMESPACES:
        raise UnusableXmp("declares more namespaces than any packet")
    too_many_attributes = UnusableXmp("has more attributes than any packet")
    if packet.count(b"=") > 4 * _MOST_ATTRIBUTES:  # a list of all those of an element would be made at once
        raise too_many_attributes
    depth = names_and_values = 0

    def start(_: str, attributes: list[str]) -> None:
        nonlocal depth, names_and_values
        names_and_values += len(attributes)
        if names_and_values > 2 * _MOST_ATTRIBUTES:
            raise too_many_attributes
        depth += 1
        if depth > _DEEPEST:
            raise UnusableXmp("is nested deeper than any packet")

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    parser = new_parser()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.Parse(packet, True)


def _refuse_doctype(*_: object) -> None:
    # XMP has none. It could define entities that grow without bound in whoever reads the output.
    raise UnusableXmp("has a document type declaration, which XMP forbids,")


def split(name: str) -> Name:
    """A name as expat gives it: ``namespace local prefix``, the last one or two perhaps missing."""
    parts = name.split(" ")
    return (parts[0], parts[1]) if len(parts) > 1 else ("", parts[0])


def written_attributes(packet: bytes, tag_at: int) -> Iterator[re.Match[bytes]]:
    """The attributes of the tag at an offset as they stand there: name, and value in one of two groups."""
    tag = _TAG_NAME.match(packet, tag_at)
    at = tag.end() if tag else len(packet)
    while attribute := _ATTRIBUTE.match(packet, at):
        yield attribute
        at = attribute.end()


def named_attributes(
    packet: bytes, tag_at: int, attributes: list[str]
) -> Iterator[tuple[Name, str, re.Match[bytes]]]:
    """The same with the names and values that a parser gave for them; declarations are left out."""
    names: dict[bytes, tuple[Name, str]] = {}
    for expanded, value in zip(attributes[::2], attributes[1::2], strict=True):
        prefix = expanded.split(" ")[2] + ":" if expanded.count(" ") == 2 else ""
        name = split(expanded)
        names[f"{prefix}{name[1]}".encode()] = (name, value)
    for attribute in written_attributes(packet, tag_at):
        if attribute[1] in names:
            yield *names[attribute[1]], attribute


@dataclass(frozen=True, slots=True)
class Property:
    """A property as it stands in a packet."""

    name: Name
    written_as: bytes
    start: int
    end: int
    is_attribute: bool
    value: str
    """Of a simple property; of all others the text outside the elements in it."""
    list_end: int = -1
    """Where the end tag of the list in it stands; -1 if there is none."""
    scope: Mapping[str, str] = field(default_factory=dict, compare=False)
    """The namespaces that are declared around it, by their prefixes; the empty one is the default."""

    def with_value(self, value: str) -> bytes:
        """The same property with another value. It declares its prefix anew: the old tag may have done so."""
        if self.is_attribute:
            return b" " + self.written_as + b"=" + quoteattr(value).encode()
        return self._element(value)

    def as_element(self) -> bytes:
        """A simple property as an element, however it was written."""
        return self._element(self.value)

    def _element(self, value: str) -> bytes:
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


class Properties:
    """Where in an XMP packet its top-level properties stand.

    While it is read, stacks hold the elements that are open and the namespaces declared around each. The
    start, value and end of a list that are kept are those of the property that is open, if one is.
    """

    def __init__(self, packet: bytes) -> None:
        self.packet = packet
        self.found: list[Property] = []
        self.about = ""
        self.rdf_end = -1
        self._open: list[Name] = []
        self._rdf_at = -1
        """Where the outermost rdf:RDF stands among the open elements; -1 outside of it."""
        self._started = 0
        self._value: list[str] = []  # joined at the end: a value may be megabytes in very many pieces
        self._list_end = -1
        self._parser = parser = new_parser()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartNamespaceDeclHandler = self._declare
        self._declared: dict[str, str] = {}
        self._scopes: list[ChainMap[str, str]] = [ChainMap()]
        parse(parser, packet)
        if self.rdf_end < 0:
            raise UnusableXmp("holds no properties")

    def value(self, name: Name) -> str | None:
        """What a property says; None if the packet does not have it."""
        return next((found.value for found in self.found if found.name == name), None)

    def _declare(self, prefix: str | None, space: str | None) -> None:
        self._declared[prefix or ""] = space or ""

    def _enter_scope(self) -> None:
        """What is declared within a property is of no concern."""
        scope = self._scopes[-1]
        if self._declared and self._level() <= _DESCRIPTION:
            scope = scope.new_child(self._declared)  # a copy for each would cost their number times its size
        self._declared = {}
        self._scopes.append(scope)

    def _start(self, name: str, attributes: list[str]) -> None:
        self._open.append(split(name))
        if self._rdf_at < 0 and self._open[-1] == _RDF_NAME:
            self._rdf_at = len(self._open) - 1
        self._enter_scope()
        level = self._level()
        if level == _DESCRIPTION:
            self._note_attributes(attributes)
        elif level == _PROPERTY:
            self._started, self._list_end = self._parser.CurrentByteIndex, -1
            resources = zip(attributes[::2], attributes[1::2], strict=True)
            self._value = [uri for key, uri in resources if split(key) == (RDF, "resource")][:1]

    def _text(self, text: str) -> None:
        if self._level() == _PROPERTY:
            self._value.append(text)

    def _level(self) -> int:
        """How far below rdf:RDF the innermost element is that is open; -1 outside of it."""
        return len(self._open) - 1 - self._rdf_at if self._rdf_at >= 0 else -1

    def _note_attributes(self, attributes: list[str]) -> None:
        """A simple property may be an attribute of its Description."""
        for key, value in zip(attributes[::2], attributes[1::2], strict=True):
            if split(key) in ((RDF, "about"), ("", "about")):
                self.about = value
        here = self._parser.CurrentByteIndex
        for name, value, written in named_attributes(self.packet, here, attributes):
            self.found.append(
                Property(
                    name, written[1], written.start(), written.end(), True, value, scope=self._scopes[-1]
                )
            )

    def _end(self, _: str) -> None:
        at = self._parser.CurrentByteIndex
        level = self._level()
        if level == _PROPERTY:
            tag = _TAG_NAME.match(self.packet, self._started)
            written_as = tag[0][1:] if tag else b""
            end = self._after_element(at)
            name, value = self._open[-1], "".join(self._value).strip()
            self.found.append(
                Property(
                    *(name, written_as, self._started, end, False, value, self._list_end), self._scopes[-2]
                )
            )
        elif level == _VALUE and self._open[-1] in LISTS and _LIST_END.match(self.packet, at):
            self._list_end = at
        elif level == _ROOT and _RDF_END.match(self.packet, at):
            self.rdf_end = at
        self._open.pop()
        self._scopes.pop()
        if len(self._open) == self._rdf_at:
            self._rdf_at = -1
        if len(self.found) > _MOST_PROPERTIES:
            raise UnusableXmp("has more properties than any packet")

    def _after_element(self, end_tag_at: int) -> int:
        """The end of the property that started last; an empty one has no tag at its end."""
        start_tag_end = self.packet.index(b">", self._after_attributes())
        if self.packet[start_tag_end - 1 : start_tag_end] == b"/":
            return start_tag_end + 1
        return self.packet.index(b">", end_tag_at) + 1

    def _after_attributes(self) -> int:
        at = self._started
        for attribute in written_attributes(self.packet, self._started):
            at = attribute.end()
        return at
