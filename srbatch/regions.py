"""Regions in XMP, of faces above all: they follow a photo that is turned upright and enlarged.

Namespaces and structures are those of the Metadata Working Group's guidelines 2.0 (5.9), of Microsoft's
People Tagging, of Exif in XMP (CIPA DC-010), and of the image regions of the IPTC Photo Metadata Standard
(2019.1). All hold for the picture as it is stored, before it is
turned; of the first, some programs write them for the upright one, and AppliedToDimensions says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, isnan, nan

from srbatch.packets import RDF, Name, named_attributes, new_parser, parse, split
from srbatch.placement import Placement

_GROUP = "http://www.metadataworkinggroup.com/schemas/regions/"
_DIMENSIONS = "http://ns.adobe.com/xap/1.0/sType/Dimensions#"
_AREA = "http://ns.adobe.com/xmp/sType/Area#"
_PEOPLE = "http://ns.microsoft.com/photo/1.2/t/Region#"
_EXIF = "http://ns.adobe.com/exif/1.0/"

_APPLIED: Name = (_GROUP, "AppliedToDimensions")
_STRUCTURES = frozenset([_APPLIED, (_GROUP, "Area")])
_RECTANGLE: Name = (_PEOPLE, "Rectangle")
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_BOUNDARY: Name = (_IPTC, "RegionBoundary")
_VERTICES: Name = (_IPTC, "rbVertices")
_FIELDS = frozenset([_DIMENSIONS, _AREA, _IPTC])
_SUBJECTS = frozenset([(_EXIF, "SubjectArea"), (_EXIF, "SubjectLocation")])


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


_Fields = dict[str, _Text]
_LONGEST_NUMBER = 10
"""Digits of a place in pixels."""


class _Subject:
    """A SubjectArea or SubjectLocation: its numbers, and the whole element."""

    def __init__(self, start: int) -> None:
        self.start, self.end = start, start
        self.numbers: list[_Text] = []

    def moved(self, placement: Placement) -> dict[_Text, str]:
        """What to write where; nothing at all where the subject lies outside the picture."""
        numbers = [text.value.strip() for text in self.numbers]
        if not 2 <= len(numbers) <= 4 or not all(map(str.isdecimal, numbers)):
            return {}
        moved = None
        if max(map(len, numbers)) <= _LONGEST_NUMBER:
            moved = placement.subject(list(map(int, numbers)))
        if moved is None:
            return {_Text(self.start, self.end, ""): ""}
        return {text: str(number) for text, number in zip(self.numbers, moved, strict=True)}

    def is_lost(self, placement: Placement) -> bool:
        """Whether it lies outside the picture."""
        return "" in self.moved(placement).values()


@dataclass(slots=True)
class _Boundary:
    """Of an image region of IPTC's: a rectangle, a circle, or a polygon with vertices."""

    fields: _Fields = field(default_factory=dict)
    vertices: list[_Fields] = field(default_factory=list)

    def moved(self, placement: Placement) -> dict[_Text, str]:
        """What to write where; nothing for a boundary that is none, or stays.

        x and y are those of a rectangle's upper left corner or of a circle's middle. In relative units, a
        circle's radius is a part of the width.
        """
        unit, shape = (
            self.fields[key].value.strip() if key in self.fields else "" for key in ("rbUnit", "rbShape")
        )
        if unit not in ("pixel", "relative") or (unit == "relative" and placement.turn == 1):
            return {}
        (height, width), (high, wide) = placement.stored, placement.output
        in_pixels = unit == "pixel"
        before, after = ((width, height), (wide, high)) if in_pixels else ((1, 1), (1, 1))

        def at(x: float, y: float) -> tuple[float, float]:
            x, y = placement.point(x / before[0], y / before[1])
            return x * after[0], y * after[1]

        new: dict[_Text, float] = {}
        try:
            if shape == "rectangle":
                texts = [self.fields[key] for key in ("rbX", "rbY", "rbW", "rbH")]
                x, y, across, down = (text.number for text in texts)
                (left, right), (top, bottom) = map(
                    sorted, zip(at(x, y), at(x + across, y + down), strict=True)
                )
                new = dict(zip(texts, (left, top, right - left, bottom - top), strict=True))
            elif shape == "circle":
                x_text, y_text, radius = (self.fields[key] for key in ("rbX", "rbY", "rbRx"))
                new = dict(zip((x_text, y_text), at(x_text.number, y_text.number), strict=True))
                pixels = radius.number * width / before[0] * float(placement.factors[0])
                new[radius] = pixels * after[0] / wide
            elif shape == "polygon":
                for vertex in self.vertices:
                    x_text, y_text = vertex["rbX"], vertex["rbY"]
                    new |= zip((x_text, y_text), at(x_text.number, y_text.number), strict=True)
        except KeyError:
            return {}
        if any(map(isnan, new.values())):
            return {}
        return {text: _written(round(number) if in_pixels else number) for text, number in new.items()}


class _Regions:
    """What a packet says of regions."""

    def __init__(self, packet: bytes) -> None:
        """Read it.

        Raises:
            UnusableXmp: it is not well-formed.
        """
        self.applied: list[_Fields] = []
        self.areas: list[_Fields] = []
        self.rectangles: list[_Text] = []
        self.subjects: list[_Subject] = []
        self.boundaries: list[_Boundary] = []
        self._packet = packet
        self._open: list[Name] = []
        self._fields: _Fields | None = None
        self._text_at, self._text = -1, list[str]()
        self._parser = parser = new_parser()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._take_text
        parse(parser, packet)

    def _start(self, name: str, attributes: list[str]) -> None:
        element = split(name)
        self._open.append(element)
        self._text_at, self._text = -1, []
        if element in _STRUCTURES:
            self._fields = {}
            (self.applied if element == _APPLIED else self.areas).append(self._fields)
        elif element == _BOUNDARY:
            self.boundaries.append(_Boundary())
            self._fields = self.boundaries[-1].fields
        elif self._is_vertex(self._open) and self.boundaries:
            self._fields = {}
            self.boundaries[-1].vertices.append(self._fields)
        elif element in _SUBJECTS:
            self.subjects.append(_Subject(self._parser.CurrentByteIndex))
        if self._fields is None and not any(split(key) == _RECTANGLE for key in attributes[::2]):
            return
        here = self._parser.CurrentByteIndex
        for attribute, value, written in named_attributes(self._packet, here, attributes):
            group = 2 if written[2] is not None else 3
            self._take(attribute, _Text(written.start(group), written.end(group), value))

    @staticmethod
    def _is_vertex(path: Sequence[Name]) -> bool:
        """Whether an element is an item of a boundary's list of vertices."""
        return len(path) >= 3 and path[-3] == _VERTICES and path[-1] == (RDF, "li")

    def _take_text(self, text: str) -> None:
        if self._text_at < 0:
            self._text_at = self._parser.CurrentByteIndex
        self._text.append(text)

    def _end(self, _: str) -> None:
        element = self._open.pop()
        if self._text_at >= 0:
            text = _Text(self._text_at, self._parser.CurrentByteIndex, "".join(self._text))
            self._text_at = -1
            if element == (RDF, "li") and len(self._open) >= 2 and self._open[-2] in _SUBJECTS:
                self.subjects[-1].numbers.append(text)
            else:
                self._take(element, text)
        if element in _STRUCTURES or element == _BOUNDARY:
            self._fields = None
        elif self._is_vertex((*self._open[-2:], element)) and self.boundaries:
            self._fields = self.boundaries[-1].fields
        elif element in _SUBJECTS:
            self.subjects[-1].end = self._packet.index(b">", self._parser.CurrentByteIndex) + 1

    def _take(self, name: Name, text: _Text) -> None:
        space, local = name
        if name == _RECTANGLE:
            self.rectangles.append(text)
        elif self._fields is not None and space in _FIELDS:
            self._fields[local] = text


def moved(packet: bytes, placement: Placement) -> bytes:
    """The packet with its regions where they lie in the output.

    Raises:
        UnusableXmp: it is not well-formed.
    """
    regions, new = _Regions(packet), dict[_Text, str]()
    for subject in regions.subjects:
        new |= subject.moved(placement)
    for boundary in regions.boundaries:
        new |= boundary.moved(placement)
    if placement.on_its_side and any(_is_upright(fields, placement) for fields in regions.applied):
        placement = replace(placement, turn=1)
    for fields in regions.applied:
        new |= _applied_to(fields, placement.output)
    if placement.turn != 1:
        for fields in regions.areas:
            new |= _moved_area(fields, placement)
        for rectangle in regions.rectangles:
            new |= _moved_rectangle(rectangle, placement)
    result, at = bytearray(), 0
    for text in sorted(new, key=lambda text: text.start):
        if text.start < at:  # within an element that is gone
            continue
        result += packet[at : text.start] + new[text].encode()
        at = text.end
    return bytes(result + packet[at:])


def lose_subject(packet: bytes, placement: Placement) -> bool:
    """Whether a packet tells of a subject that lies outside the picture, which the output will not say.

    Raises:
        UnusableXmp: it is not well-formed.
    """
    return any(subject.is_lost(placement) for subject in _Regions(packet).subjects)


def _is_upright(applied: _Fields, placement: Placement) -> bool:
    """Whether regions were written for the picture turned upright, by its longer side."""
    high, wide = placement.output
    across, down = (applied[side].number if side in applied else 0 for side in ("w", "h"))
    return (across - down) * (wide - high) > 0


def _has_unit(fields: _Fields, unit: str) -> bool:
    return "unit" not in fields or fields["unit"].value.strip() == unit


def _applied_to(fields: _Fields, output: tuple[int, int]) -> dict[_Text, str]:
    sides = {"w": output[1], "h": output[0]} if _has_unit(fields, "pixel") else {}
    return {fields[side]: str(length) for side, length in sides.items() if side in fields}


def _moved_area(fields: _Fields, placement: Placement) -> dict[_Text, str]:
    """x and y are the middle of the area; one that is a circle has a diameter instead of width and height."""
    if not fields.keys() >= {"x", "y"} or not _has_unit(fields, "normalized"):
        return {}
    x, y = placement.point(fields["x"].number, fields["y"].number)
    new = {fields["x"]: _written(x), fields["y"]: _written(y)}
    if placement.on_its_side and fields.keys() >= {"w", "h"}:
        new |= {fields["w"]: _written(fields["h"].number), fields["h"]: _written(fields["w"].number)}
    return new if "nan" not in new.values() else {}


def _moved_rectangle(text: _Text, placement: Placement) -> dict[_Text, str]:
    """Of "x, y, width, height"; x and y are the upper left corner."""
    try:
        x, y, wide, high = map(float, text.value.split(","))
    except ValueError:
        return {}
    corners = placement.point(x, y), placement.point(x + wide, y + high)
    left, top = (min(pair) for pair in zip(*corners, strict=True))
    sides = (high, wide) if placement.on_its_side else (wide, high)
    return {text: ", ".join(map(_written, (left, top, *sides)))}


def _written(number: float) -> str:
    return f"{number:.9g}"
