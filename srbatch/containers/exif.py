"""What EXIF says: the tags of the block in JPEG, PNG, WebP and HEIF files, and the same tags in TIFF files.

An EXIF block *is* a small TIFF file: a header, IFD0 (what describes the picture), the Exif, GPS and
Interoperability directories that it points to, and IFD1 (the thumbnail). This module reads. Three write:

* ``exif_patch`` corrects a block that is carried from file to file. MakerNotes hold offsets that only the
  camera's maker understands, so neither their bytes nor their place in the block may change: the block is
  patched, never written anew.
* ``tiff_append`` puts the tags of a block into a TIFF *file*, which has no place for a block. They are copied
  value by value, in the byte order of the file.
* ``exif_build`` makes the directories of both, and blocks where there were none: those of TIFF files' tags.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from srbatch.containers.tiff_structure import RATIONAL, BrokenTiff, Entry, TiffReader, Value
from srbatch.errors import one_line
from srbatch.placement import rational

ORIENTATION, SOFTWARE, XMP, IPTC, PHOTOSHOP, ICC = 0x0112, 0x0131, 700, 33723, 34377, 34675
TRANSFER_FUNCTION = 0x012D
EXTRA_SAMPLES = 0x0152
"""What channels beside the colours are: 0 anything, 1 alpha that colours were multiplied by, 2 alpha."""
EXIF_IFD, GPS_IFD, INTEROP_IFD, SUB_IFDS = 0x8769, 0x8825, 0xA005, 0x014A
COLOUR_SPACE, UNCALIBRATED = 0xA001, 0xFFFF
"""The tag, and what it says of whatever is not sRGB (Exif 2.3, 4.6.5)."""
_INTEROP_INDEX = 0x0001
MAKER_NOTE = 0x927C
MAKER_NOTE_MOVED = "the camera maker's own notes (MakerNote) were moved, and programs may misread them"
MAKER_NOTE_SWAPPED = (
    "the camera maker's own notes (MakerNote) now stand among numbers of the other byte order, and programs"
    " may misread them"
)

_DESCRIPTIVE = frozenset(
    [
        # processing software; document name, description, make, model; page name, place on the page (in cm
        # or inches, as the unit of the resolution is), page number; software, date; artist
        *(0x000B, 0x010D, 0x010E, 0x010F, 0x0110, 0x011D, 0x011E, 0x011F, 0x0129, SOFTWARE, 0x0132, 0x013B),
        # host, printer; transfer function and its range, white point, primaries; image id; rating (twice)
        *(0x013C, 0x0151, TRANSFER_FUNCTION, 0x0156, 0x013E, 0x013F, 0x800D, 0x4746, 0x4749),
        # copyright; date taken (TIFF/EP); XP title to subject
        *(0x8298, 0x9003, *range(0x9C9B, 0x9CA0)),
    ]
)
"""The tags of IFD0 that say something about the photo and nothing about how its pixels are stored."""

_LAST_STRUCTURAL = 767
_ALSO_MISSED = frozenset([0x0141, 0x0157, TRANSFER_FUNCTION])  # HalftoneHints, ClipPath; one that is too long
_ALL_LEVELS_OF_8_BITS = 3 * 256 * 2
PADDING = 0xEA1C  # Windows leaves room with it

X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
_RESOLUTION = frozenset([X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT])
_MM_OF_INCH = Fraction(254, 10)
_MM_OF_UNIT = {2: _MM_OF_INCH, 3: Fraction(10)}
PLACE_ON_PAGE = frozenset([0x011E, 0x011F])
"""XPosition and YPosition, in the unit of the resolution."""
FIRST_FREE = 16
"""The first offset that is behind the header of any TIFF structure."""
_LONGEST_NAME = 200
_LARGEST_COPY = 1 << 26
"""Bytes of all values of a directory: a crafted file can name the same ones again and again."""


@dataclass(slots=True)
class Tags:
    """The tags of a photo, free of offsets and byte order, so that ``==`` compares meaning."""

    main: dict[int, Value] = field(default_factory=dict)
    exif: dict[int, Value] = field(default_factory=dict)
    gps: dict[int, Value] = field(default_factory=dict)
    interop: dict[int, Value] = field(default_factory=dict)
    unreadable: int = 0
    """How many tags could not be copied: damaged, or of an unknown type."""

    def descriptive(self) -> Tags:
        """The tags that live in a TIFF file beside those that the encoder of its pixels writes."""
        main = {tag: value for tag, value in self.main.items() if tag in _DESCRIPTIVE - PLACE_ON_PAGE}
        main |= self._place_on_page_in_inches()
        return Tags(main, self.exif, self.gps, self.interop)

    def _place_on_page_in_inches(self) -> dict[int, Value]:
        """The unit of an output's resolution; nothing where this one's has none."""
        mm = mm_of_unit(self.main)
        places = {tag: fraction(self.main.get(tag)) for tag in PLACE_ON_PAGE & self.main.keys()}
        if mm == _MM_OF_INCH:
            return {tag: self.main[tag] for tag in places}
        return {tag: Value.rational(*rational(n * mm / _MM_OF_INCH)) for tag, n in places.items() if mm}


def tags_in(reader: TiffReader) -> Tags:
    """All tags of IFD0 that are no pointers or pixels, and those of the directories below it."""
    tags = Tags()
    exif, gps = reader.intact_child(reader.ifd0, EXIF_IFD), reader.intact_child(reader.ifd0, GPS_IFD)
    interop = reader.intact_child(exif, INTEROP_IFD)
    pointers = ((reader.ifd0, EXIF_IFD, exif), (reader.ifd0, GPS_IFD, gps), (exif, INTEROP_IFD, interop))
    for parent, tag, child in pointers:
        tags.unreadable += parent is not None and parent.find(tag) is not None and child is None
    wanted = _RESOLUTION | {ORIENTATION}
    _copy(reader, [e for e in reader.ifd0.entries if e.tag in wanted or _is_descriptive(e)], tags.main, tags)
    for directory, values in ((exif, tags.exif), (gps, tags.gps), (interop, tags.interop)):
        if directory:
            _copy(reader, [e for e in directory.entries if e.tag != INTEROP_IFD], values, tags)
    return tags


def _is_descriptive(entry: Entry) -> bool:
    """Whether a tag of IFD0 describes the photo, and its output too.

    A transfer function lists all levels. Outputs have 8 bits where photos have, and else may have fewer.
    """
    too_long = entry.tag == TRANSFER_FUNCTION and entry.size > _ALL_LEVELS_OF_8_BITS
    return entry.tag in _DESCRIPTIVE and not too_long


def is_missed(entry: Entry) -> bool:
    """Whether a tag of IFD0, neither pointer nor block, is worth a word if only descriptive ones are kept.

    Up to 767, all that are neither descriptive nor among the few that are named here tell how pixels are
    stored (TIFF 6.0 and its supplements); an output has its own.
    """
    return not _is_descriptive(entry) and (entry.tag > _LAST_STRUCTURAL or entry.tag in _ALSO_MISSED)


def _copy(reader: TiffReader, entries: Iterable[Entry], values: dict[int, Value], tags: Tags) -> None:
    room = _LARGEST_COPY
    for entry in entries:
        value = reader.value(entry, room)
        if value is None:
            tags.unreadable += 1
            continue
        room -= len(value.data)
        values.setdefault(entry.tag, value)


def reader_of(block: bytes) -> TiffReader:
    """What reads an EXIF block.

    Raises:
        BrokenTiff: it is none. BigTIFF is none either: Exif asks for the header of TIFF 6.0.
    """
    reader = TiffReader(io.BytesIO(block))
    if reader.layout.big:
        raise BrokenTiff("an EXIF block cannot be BigTIFF")
    return reader


def tags_of(block: bytes | None) -> Tags:
    """The tags of an EXIF block; no block has none."""
    return tags_in(reader_of(block)) if block else Tags()


def orientation(block: bytes) -> int:
    """How the photo must be turned, 1 to 8; anything else that the block says counts as 1."""
    reader = reader_of(block)
    try:
        numbers = reader.numbers(reader.ifd0.find(ORIENTATION))
    except BrokenTiff:
        return 1
    return numbers[0] if len(numbers) == 1 and 1 <= numbers[0] <= 8 else 1


def tells_of_adobe_rgb(block: bytes) -> bool:
    """Whether colours are Adobe RGB, said by the interoperability index R03 of DCF's option file.

    Cameras that are set to it write that and mostly no profile (DCF 2.0, CIPA DC-009).
    """
    reader = reader_of(block)
    exif = reader.intact_child(reader.ifd0, EXIF_IFD)
    interop = reader.intact_child(exif, INTEROP_IFD)
    index = interop.find(_INTEROP_INDEX) if interop else None
    if exif is None or index is None:
        return False
    try:
        spaces, said = reader.numbers(exif.find(COLOUR_SPACE)), reader.raw(index)
    except BrokenTiff:
        return False
    return spaces == [UNCALIBRATED] and said.rstrip(b"\0") == b"R03"


def software(block: bytes) -> str | None:
    """The program or firmware that a block names, in one line of at most 200 characters; None for none."""
    value = tags_of(block).main.get(SOFTWARE)
    said = value.data.split(b"\0")[0].strip() if value is not None else b""
    try:
        text = said.decode()
    except UnicodeDecodeError:
        text = said.decode("latin-1")
    return one_line(text)[:_LONGEST_NAME] or None


def swaps_maker_note(tags: Tags, before: str, order: str) -> bool:
    """Whether a MakerNote is in the byte order ``before`` of its structure, and the output's is the other.

    Those that say their own, by the mark of TIFF near their start (Nikon's, Olympus's, Pentax's, Apple's), or
    always have the same (Fujifilm's) can be read in both. So can one that is in the output's order already,
    as its first number tells where it begins with a directory: how many entries that has.
    """
    note = tags.exif.get(MAKER_NOTE)
    if note is None or before == order:
        return False
    start = note.data[:16]
    names_order = start.startswith(b"FUJIFILM") or b"II" in start or b"MM" in start
    entries, swapped = (start[:2] if o == ">" else start[1::-1] for o in (order, before))
    return not names_order and not (entries[:1] == b"\0" != swapped[:1])


def resolution(block: bytes) -> tuple[float, float] | None:
    """Pixels per mm, across and down, of the stored picture; None where the block does not say."""
    main = tags_of(block).main
    mm = mm_of_unit(main)
    across, down = (fraction(main.get(tag)) for tag in (X_RESOLUTION, Y_RESOLUTION))
    return (float(across / mm), float(down / mm)) if mm else None


def mm_of_unit(main: Mapping[int, Value]) -> Fraction | None:
    """Millimetres of the unit of lengths that the tags of IFD0 name; None for none and without resolution."""
    if not all(fraction(main.get(tag)) for tag in (X_RESOLUTION, Y_RESOLUTION)):
        return None
    unit = main.get(RESOLUTION_UNIT, Value.short(2))
    return _MM_OF_UNIT.get(int.from_bytes(unit.data, "little"))


def fraction(value: Value | None) -> Fraction:
    """A single unsigned rational; 0 for anything else."""
    if value is None or value.type != RATIONAL or len(value.data) != 8:
        return Fraction(0)
    numerator, denominator = struct.unpack("<II", value.data)
    return Fraction(numerator, denominator) if denominator else Fraction(0)


def maker_note_at(reader: TiffReader) -> int | None:
    """Where the bytes of the MakerNote begin; None where there is none, or none that has offsets."""
    exif = reader.intact_child(reader.ifd0, EXIF_IFD)
    note = exif.find(MAKER_NOTE) if exif else None
    if note is None or note.size <= reader.layout.offset_size or reader.value(note, _LARGEST_COPY) is None:
        return None
    return note.value_at
