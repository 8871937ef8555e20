"""Regions in XMP, of faces above all: they follow a photo that is turned upright and enlarged.

Namespaces and structures are those of the Metadata Working Group's guidelines 2.0 (5.9), of Microsoft's
People Tagging, of Exif in XMP (CIPA DC-010), and of the image regions of the IPTC Photo Metadata Standard
(2019.1). All hold for the picture as it is stored, before it is turned; of the first, some programs write
them for the upright one, and AppliedToDimensions says so.

A parser finds where their simple values stand in the packet; what they become is a list of edits of its text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from math import isfinite, isnan, nan

from srbatch.metadata.packets import RDF, Name, named_attributes, new_parser, parse, split
from srbatch.placement import Placement

_GROUP = "http://www.metadataworkinggroup.com/schemas/regions/"
_DIMENSIONS = "http://ns.adobe.com/xap/1.0/sType/Dimensions#"
_AREA = "http://ns.adobe.com/xmp/sType/Area#"
_PEOPLE = "http://ns.microsoft.com/photo/1.2/t/Region#"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"

_APPLIED: Name = (_GROUP, "AppliedToDimensions")
_AREA_OF_GROUP: Name = (_GROUP, "Area")
_RECTANGLE: Name = (_PEOPLE, "Rectangle")
_BOUNDARY: Name = (_IPTC, "RegionBoundary")
_VERTICES: Name = (_IPTC, "rbVertices")
_SUBJECTS = frozenset([(_EXIF, "SubjectArea"), (_EXIF, "SubjectLocation")])
_ITEM: Name = (RDF, "li")
_FIELDS = frozenset([_DIMENSIONS, _AREA, _IPTC])
"""Namespaces of the fields of a structure."""
_LONGEST_NUMBER = 10
"""Digits of a place in pixels."""
_MOST_PIECES = 10_000
"""Of a text, in which each line is one; what is longer tells no place, and may be millions of empty lines."""


@dataclass(frozen=True, slots=True)
class _Edit:
    """Bytes of the packet, and the text that they become; an element that has to go becomes none."""

    start: int
    end: int
    new: str


@dataclass(frozen=True, slots=True)
class _Text:
    """A simple value and where it stands in the packet."""

    start: int
    end: int
    value: str

    @property
    def number(self) -> float:
        """NaN for what is none."""
        try:
            number = float(self.value)
        except ValueError:
            return nan
        return number if isfinite(number) else nan

    def becomes(self, new: str) -> _Edit:
        return _Edit(self.start, self.end, new)


# ---- what a packet says --------------------------------------------------------------------------


@dataclass(slots=True)
class _Structure:
    """A structure of simple values: an area, a list of dimensions, a boundary, a vertex."""

    fields: dict[str, _Text] = field(default_factory=dict)
    """By their local names."""

    def take(self, name: Name, text: _Text) -> None:
        space, local = name
        if space in _FIELDS:
            self.fields[local] = text

    def text(self, local: str, default: str = "") -> str:
        return self.fields[local].value.strip() if local in self.fields else default


@dataclass(slots=True)
class _Boundary(_Structure):
    """Of an image region of IPTC's: a rectangle, a circle, or a polygon with vertices."""

    vertices: list[_Structure] = field(default_factory=list)


@dataclass(slots=True)
class _Subject:
    """A SubjectArea or SubjectLocation: its numbers, and the whole element."""

    start: int
    end: int = -1
    numbers: list[_Text] = field(default_factory=list)

    def take(self, name: Name, text: _Text) -> None:
        if name == _ITEM:
            self.numbers.append(text)


@dataclass(frozen=True, slots=True)
class _Element:
    """An element that is open."""

    name: Name
    owner: _Structure | _Subject | None
    """What the simple values in it belong to: what this element began, or else what it lies in."""


class _Regions:
    """What a packet says of regions.

    While it is read, a stack holds the elements that are open. A simple value is an attribute, or text that
    ends with the end of an element; it goes to the owner in whose element it stands.
    """

    def __init__(self, packet: bytes) -> None:
        """Read it.

        Raises:
            UnusableXmp: it is not well-formed.
        """
        self.applied: list[_Structure] = []
        self.areas: list[_Structure] = []
        self.rectangles: list[_Text] = []
        self.subjects: list[_Subject] = []
        self.boundaries: list[_Boundary] = []
        self._packet = packet
        self._open: list[_Element] = []
        self._text_at, self._text = -1, list[str]()  # since the last tag; -1 for none
        self._parser = parser = new_parser()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._take_text
        parse(parser, packet)

    def _start(self, name: str, attributes: list[str]) -> None:
        here, element = self._parser.CurrentByteIndex, split(name)
        owner = self._begun_by(element, here) or (self._open[-1].owner if self._open else None)
        self._open.append(_Element(element, owner))
        self._text_at, self._text = -1, []
        if owner is None and not any(split(key) == _RECTANGLE for key in attributes[::2]):
            return
        for attribute, value, written in named_attributes(self._packet, here, attributes):
            group = 2 if written[2] is not None else 3
            self._take(owner, attribute, _Text(written.start(group), written.end(group), value))

    def _begun_by(self, element: Name, at: int) -> _Structure | _Subject | None:
        """The owner of simple values that an element begins, if it begins one."""
        if element == _BOUNDARY:
            self.boundaries.append(boundary := _Boundary())
            return boundary
        if element in _SUBJECTS:
            self.subjects.append(subject := _Subject(at))
            return subject
        structures = {_APPLIED: self.applied, _AREA_OF_GROUP: self.areas}.get(element)
        if element == _ITEM and len(self._open) >= 2 and self._open[-2].name == _VERTICES:
            around = self._open[-1].owner
            structures = around.vertices if isinstance(around, _Boundary) else None
        if structures is None:
            return None
        structures.append(structure := _Structure())
        return structure

    def _take_text(self, text: str) -> None:
        if self._text_at < 0:
            self._text_at = self._parser.CurrentByteIndex
        if len(self._text) < _MOST_PIECES:
            self._text.append(text)

    def _end(self, _: str) -> None:
        element = self._open.pop()
        if self._text_at >= 0:
            text = _Text(self._text_at, self._parser.CurrentByteIndex, "".join(self._text))
            self._text_at = -1
            self._take(element.owner, element.name, text)
        if element.name in _SUBJECTS and isinstance(element.owner, _Subject):
            element.owner.end = self._packet.index(b">", self._parser.CurrentByteIndex) + 1

    def _take(self, owner: _Structure | _Subject | None, name: Name, text: _Text) -> None:
        if name == _RECTANGLE:
            self.rectangles.append(text)
        elif owner is not None:
            owner.take(name, text)


# ---- what becomes of it --------------------------------------------------------------------------


def moved(packet: bytes, placement: Placement) -> bytes:
    """The packet with its regions where they lie in the output.

    Raises:
        UnusableXmp: it is not well-formed.
    """
    regions, edits = _Regions(packet), list[_Edit]()
    for subject in regions.subjects:
        edits += _subject_edits(subject, placement)
    for boundary in regions.boundaries:
        edits += _boundary_edits(boundary, placement)
    if placement.on_its_side and any(_is_upright(applied, placement) for applied in regions.applied):
        placement = replace(placement, turn=1)
    for applied in regions.applied:
        edits += _dimension_edits(applied, placement.output)
    if placement.turn != 1:
        for area in regions.areas:
            edits += _area_edits(area, placement)
        for rectangle in regions.rectangles:
            edits += _rectangle_edits(rectangle, placement)
    return _edited(packet, edits)


def _edited(packet: bytes, edits: Iterable[_Edit]) -> bytes:
    result, at = bytearray(), 0
    for edit in sorted(edits, key=lambda edit: edit.start):
        if edit.start < at:  # within an element that is gone
            continue
        result += packet[at : edit.start] + edit.new.encode()
        at = edit.end
    return bytes(result + packet[at:])


def lose_subject(packet: bytes, placement: Placement) -> bool:
    """Whether a packet tells of a subject that lies outside the picture, which the output will not say.

    Raises:
        UnusableXmp: it is not well-formed.
    """
    return any(_in_output(subject, placement) is None for subject in _Regions(packet).subjects)


# ---- subjects ------------------------------------------------------------------------------------


def _in_output(subject: _Subject, placement: Placement) -> list[int] | None:
    """Its numbers in the output: none of what is no subject, None of one that lies outside the picture."""
    numbers = [text.value.strip() for text in subject.numbers]
    if not 2 <= len(numbers) <= 4 or not all(map(str.isdecimal, numbers)):
        return []
    if max(map(len, numbers)) > _LONGEST_NUMBER:
        return None
    return placement.subject(list(map(int, numbers)))


def _subject_edits(subject: _Subject, placement: Placement) -> list[_Edit]:
    numbers = _in_output(subject, placement)
    if numbers is None:
        return [_Edit(subject.start, subject.end, "")]
    return [text.becomes(str(new)) for text, new in zip(subject.numbers, numbers, strict=False)]


# ---- regions of IPTC -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Units:
    """A placement of points and lengths that are told in pixels, or else in parts of the picture's sides."""

    placement: Placement
    pixels: bool

    def point(self, x: float, y: float) -> tuple[float, float]:
        if not self.pixels:
            return self.placement.point(x, y)
        (height, width), (high, wide) = self.placement.stored, self.placement.output
        x, y = self.placement.point(x / width, y / height)
        return x * wide, y * high

    def radius(self, length: float) -> float:
        """In relative units, it is a part of the width both before and after."""
        enlarged = length * float(self.placement.factors[0])
        return enlarged if self.pixels else enlarged * self.placement.stored[1] / self.placement.output[1]

    def written(self, number: float) -> str:
        return _written(round(number) if self.pixels else number)


_Numbers = Iterable[tuple[_Text, float]]
"""What to write where."""


def _rectangle(boundary: _Boundary, units: _Units) -> _Numbers:
    """x and y are those of its upper left corner."""
    texts = [boundary.fields[key] for key in ("rbX", "rbY", "rbW", "rbH")]
    x, y, across, down = (text.number for text in texts)
    corners = units.point(x, y), units.point(x + across, y + down)
    (left, right), (top, bottom) = map(sorted, zip(*corners, strict=True))
    return zip(texts, (left, top, right - left, bottom - top), strict=True)


def _circle(boundary: _Boundary, units: _Units) -> _Numbers:
    """x and y are those of its middle."""
    x, y, radius = (boundary.fields[key] for key in ("rbX", "rbY", "rbRx"))
    new = *units.point(x.number, y.number), units.radius(radius.number)
    return zip((x, y, radius), new, strict=True)


def _polygon(boundary: _Boundary, units: _Units) -> _Numbers:
    for vertex in boundary.vertices:
        x, y = vertex.fields["rbX"], vertex.fields["rbY"]
        yield from zip((x, y), units.point(x.number, y.number), strict=True)


_SHAPES: dict[str, Callable[[_Boundary, _Units], _Numbers]] = {
    "rectangle": _rectangle,
    "circle": _circle,
    "polygon": _polygon,
}
"""They raise KeyError where a field is missing."""


def _boundary_edits(boundary: _Boundary, placement: Placement) -> list[_Edit]:
    """None for a boundary that is none, or stays."""
    unit, shape = boundary.text("rbUnit"), _SHAPES.get(boundary.text("rbShape"))
    if shape is None or unit not in ("pixel", "relative") or (unit == "relative" and placement.turn == 1):
        return []
    units = _Units(placement, pixels=unit == "pixel")
    try:
        new = list(shape(boundary, units))
    except KeyError:
        return []
    if any(isnan(number) for _, number in new):
        return []
    return [text.becomes(units.written(number)) for text, number in new]


# ---- regions of the Metadata Working Group and of Microsoft --------------------------------------


def _is_upright(applied: _Structure, placement: Placement) -> bool:
    """Whether regions were written for the picture turned upright, by its longer side."""
    high, wide = placement.output
    across, down = (applied.fields[side].number if side in applied.fields else 0 for side in ("w", "h"))
    return (across - down) * (wide - high) > 0


def _dimension_edits(applied: _Structure, output: tuple[int, int]) -> list[_Edit]:
    if applied.text("unit", "pixel") != "pixel":
        return []
    sides = {"w": output[1], "h": output[0]}
    return [applied.fields[side].becomes(str(sides[side])) for side in sides.keys() & applied.fields.keys()]


def _area_edits(area: _Structure, placement: Placement) -> list[_Edit]:
    """x and y are the middle of the area; one that is a circle has a diameter instead of width and height."""
    fields = area.fields
    if not fields.keys() >= {"x", "y"} or area.text("unit", "normalized") != "normalized":
        return []
    x, y = placement.point(fields["x"].number, fields["y"].number)
    new = {"x": x, "y": y}
    if placement.on_its_side and fields.keys() >= {"w", "h"}:
        new |= {"w": fields["h"].number, "h": fields["w"].number}
    if any(map(isnan, new.values())):
        return []
    return [fields[local].becomes(_written(number)) for local, number in new.items()]


def _rectangle_edits(text: _Text, placement: Placement) -> list[_Edit]:
    """Of "x, y, width, height"; x and y are the upper left corner."""
    try:
        x, y, wide, high = map(float, text.value.split(","))
    except ValueError:
        return []
    corners = placement.point(x, y), placement.point(x + wide, y + high)
    left, top = (min(pair) for pair in zip(*corners, strict=True))
    sides = (high, wide) if placement.on_its_side else (wide, high)
    return [text.becomes(", ".join(map(_written, (left, top, *sides))))]


def _written(number: float) -> str:
    return f"{number:.9g}"
