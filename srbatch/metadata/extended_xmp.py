"""Extended XMP: properties that a JPEG segment has no room for stand in an extension of the packet.

Packet and extension are one (XMP specification, part 3, 1.1.3.1). They are joined when a photo is read, so
that all of it is corrected, and parted only in a JPEG file whose packet is too large for a segment.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from xml.sax.saxutils import quoteattr

from srbatch.containers.jpeg import EXTENDED_XMP_ID, JPEG_SEGMENT_BYTES, LARGEST_JPEG_XMP
from srbatch.metadata.packets import RDF, Name, Properties, Property, UnusableXmp, in_utf8

HAS_EXTENSION: Name = ("http://ns.adobe.com/xmp/note/", "HasExtendedXMP")
"""The property of a packet that names its extension."""

_NO_PROPERTIES = frozenset(["", RDF, "http://www.w3.org/XML/1998/namespace"])
"""Namespaces of what a Description has beside properties: rdf:about, xml:lang."""
_GUID_BYTES, _NUMBER_BYTES = 32, 4
_HEAD_BYTES = len(EXTENDED_XMP_ID) + _GUID_BYTES + 2 * _NUMBER_BYTES
_DECLARATION = re.compile(rb"\s*<\?xml\s[^>]{0,99}?encoding\s{0,9}=\s{0,9}[\"']([\w.-]+)[\"'][^>]{0,99}\?>")
_NAMED = (
    '<rdf:Description xmlns:rdf="{}" xmlns:xmpNote="{}" rdf:about={}>'
    "<xmpNote:HasExtendedXMP>{}</xmpNote:HasExtendedXMP></rdf:Description>\n"
)


def joined(packet: bytes, segments: Sequence[bytes]) -> Properties:
    """A packet with the properties of its extension; where both have one, that of the packet counts.

    Args:
        packet: of the photo; it can be corrected.
        segments: bodies of APP1 segments, in any order.

    Raises:
        UnusableXmp: the extension cannot be had; the message goes on from "the extended XMP".
    """
    properties = Properties(_plain(packet))
    guid = (properties.value(HAS_EXTENSION) or "").encode()
    extension = Properties(_plain(_assembled(guid, segments)))
    there = {found.name for found in properties.found}
    added = [found for found in _movable(extension) if found.name not in there]
    at = properties.rdf_end
    made = _descriptions(extension.packet, added, properties.about)
    return Properties(properties.packet[:at] + made + properties.packet[at:])


def parted(packet: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """A packet that is too large for a segment without its largest properties, and segments with these.

    It stays whole where that would not help.
    """
    properties = Properties(_plain(packet))
    packet = properties.packet
    pointer = _NAMED.format(RDF, HAS_EXTENSION[0], quoteattr(properties.about), "0" * _GUID_BYTES)
    excess = len(packet) + len(pointer.encode()) - LARGEST_JPEG_XMP
    moved = []
    for found in sorted(_movable(properties), key=lambda found: found.start - found.end):
        if excess <= 0:
            break
        moved.append(found)
        excess -= found.end - found.start
    if excess > 0:
        return packet, ()
    moved.sort(key=lambda found: found.start)
    extension = (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}">\n'.encode()
        + _descriptions(packet, moved, properties.about)
        + b"</rdf:RDF></x:xmpmeta>"
    )
    guid = hashlib.md5(extension, usedforsecurity=False).hexdigest().upper()
    result, at = bytearray(), 0
    for found in moved:
        result += packet[at : found.start]
        at = found.end
    result += packet[at : properties.rdf_end]
    result += _NAMED.format(RDF, HAS_EXTENSION[0], quoteattr(properties.about), guid).encode()
    return bytes(result + packet[properties.rdf_end :]), tuple(_segments(guid.encode(), extension))


def _plain(packet: bytes) -> bytes:
    """The packet in UTF-8 whatever encoding it declares: parts of two stand in one."""
    packet = in_utf8(packet)
    declaration = _DECLARATION.match(packet)
    if declaration is None:
        return packet
    try:
        return packet[declaration.end() :].decode(declaration[1].decode()).encode()
    except (LookupError, UnicodeError):
        raise UnusableXmp("is damaged (its encoding)") from None


def _assembled(guid: bytes, segments: Iterable[bytes]) -> bytes:
    """The extension of that name."""
    parts, sizes = dict[int, bytes](), set[int]()
    for body in segments:
        named, numbers = body[len(EXTENDED_XMP_ID) : _HEAD_BYTES - 8], body[_HEAD_BYTES - 8 : _HEAD_BYTES]
        if named.upper() == guid.upper():
            sizes.add(int.from_bytes(numbers[:_NUMBER_BYTES], "big"))
            parts[int.from_bytes(numbers[_NUMBER_BYTES:], "big")] = body[_HEAD_BYTES:]
    if not parts:
        raise UnusableXmp("is not the one that the XMP packet names")
    end = 0
    for offset, part in sorted(parts.items()):
        if offset != end:
            break
        end += len(part)
    if sizes != {end}:
        raise UnusableXmp("is incomplete")
    return b"".join(part for _, part in sorted(parts.items()))


def _segments(guid: bytes, extension: bytes) -> Iterable[bytes]:
    room = JPEG_SEGMENT_BYTES - _HEAD_BYTES
    for offset in range(0, len(extension), room):
        numbers = (number.to_bytes(_NUMBER_BYTES, "big") for number in (len(extension), offset))
        yield EXTENDED_XMP_ID + guid + b"".join(numbers) + extension[offset : offset + room]


def _movable(properties: Properties) -> list[Property]:
    return [f for f in properties.found if f.name[0] not in _NO_PROPERTIES and f.name != HAS_EXTENSION]


def _descriptions(packet: bytes, properties: Iterable[Property], about: str) -> bytes:
    """Properties as they stand in a packet, with all the prefixes that are declared there."""
    made = bytearray()
    for _, group in groupby(properties, key=lambda found: id(found.scope)):
        alike = list(group)
        scope = alike[0].scope
        rdf = "rdf" if scope.get("rdf", RDF) == RDF else "rdf-syntax"
        declared = "".join(
            f" xmlns{':' * bool(prefix)}{prefix}={quoteattr(space)}"
            for prefix, space in {**scope, rdf: RDF}.items()
        )
        made += f"<{rdf}:Description{declared} {rdf}:about={quoteattr(about)}>\n".encode()
        for found in alike:
            made += found.as_element() if found.is_attribute else packet[found.start : found.end]
            made += b"\n"
        made += f"</{rdf}:Description>\n".encode()
    return bytes(made)
