"""What EXIF says: the block of JPEG, PNG, WebP and HEIF files, and the same tags in TIFF files.

An EXIF block *is* a small TIFF file: a header, IFD0 (what describes the picture), the Exif, GPS and
Interoperability directories that it points to, and IFD1 (the thumbnail). Two rules shape this module:

* A block that is carried is patched, never written anew. MakerNotes hold offsets that only the camera's
  maker understands, so neither their bytes nor their place in the block may change. The new IFD0 goes to
  the end of the block, where it moves nothing.
* Between a block and a TIFF *file* that is not possible: there tags are copied value by value, in the
  byte order of the target. MakerNotes keep their bytes, and the place is cleared where they stood before.
"""

from __future__ import annotations

import io
import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from srbatch.errors import PhotoTooLarge
from srbatch.placement import Placement, rational
from srbatch.tiff_structure import (
    ASCII,
    BYTE,
    LONG,
    RATIONAL,
    SHORT,
    UNDEFINED,
    BrokenTiff,
    Directory,
    Entry,
    Layout,
    TiffReader,
    Value,
)

ORIENTATION, SOFTWARE, XMP, IPTC, PHOTOSHOP, ICC = 0x0112, 0x0131, 700, 33723, 34377, 34675
TRANSFER_FUNCTION = 0x012D
EXTRA_SAMPLES = 0x0152
"""What channels beside the colours are: 0 anything, 1 alpha that colours were multiplied by, 2 alpha."""
EXIF_IFD, GPS_IFD, INTEROP_IFD, SUB_IFDS = 0x8769, 0x8825, 0xA005, 0x014A
MAKER_NOTE = 0x927C
MAKER_NOTE_MOVED = "the camera maker's own notes (MakerNote) were moved, and programs may misread them"

DESCRIPTIVE = frozenset(
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
_TOLD = frozenset([0x0141, 0x0157, TRANSFER_FUNCTION])  # HalftoneHints, ClipPath; one that is too long
_ALL_LEVELS_OF_8_BITS = 3 * 256 * 2
PADDING = 0xEA1C  # Windows leaves room with it

_ACROSS, _DOWN, _UNIT = 0x011A, 0x011B, 0x0128
_RESOLUTION = frozenset([_ACROSS, _DOWN, _UNIT])
_MM_OF_UNIT = {2: 25.4, 3: 10.0}
_SIZE_IN_IFD0 = {0x0100: "width", 0x0101: "height"}
_SIZE_IN_EXIF = {0xA002: "width", 0xA003: "height"}
_SIZE_IN_INTEROP = {0x1001: "width", 0x1002: "height"}  # RelatedImageWidth and RelatedImageLength, of DCF
_SUBJECTS = frozenset([0x9214, 0xA214])  # SubjectArea, SubjectLocation
_COLOUR_SPACE, _UNCALIBRATED = 0xA001, 0xFFFF  # Exif 2.3, 4.6.5: whatever is not sRGB
_COLOURS_IN_IFD0 = frozenset(
    [
        # bits, kind and number of channels; inks; transfer function and range, white point, primaries
        *(0x0102, 0x0106, 0x0115, *range(0x014C, 0x0151), TRANSFER_FUNCTION, 0x0156, 0x013E, 0x013F),
        *(*range(0x0211, 0x0215), ICC),  # YCbCr, black and white; a profile
    ]
)
_FOCAL_PLANE = (0xA20E, 0xA20F)  # FocalPlaneXResolution, FocalPlaneYResolution
# A JPEG thumbnail or previews that hang on IFD0 itself, and the thumbnail tags of Windows' GDI+.
_THUMBNAILS_IN_IFD0 = frozenset([0x0201, 0x0202, SUB_IFDS, *range(0x5012, 0x501C), *range(0x5020, 0x503C)])
_DATA_OF_THUMBNAIL = ((0x0201, 0x0202), (0x0111, 0x0117))
_DATA_OF_PICTURE = ((0x0111, 0x0117), (0x0144, 0x0145))  # strips and tiles: where, and how many bytes
_LARGEST_PADDED_BLOCK = 60_000  # a segment of a JPEG file holds 65,527 bytes, and IFD0 is yet to be corrected
_FIRST_FREE = 16  # behind the header of any TIFF structure
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
        main = {tag: value for tag, value in self.main.items() if tag in DESCRIPTIVE}
        return Tags(main, self.exif, self.gps, self.interop)


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
    return entry.tag in DESCRIPTIVE and not too_long


def is_missed(entry: Entry) -> bool:
    """Whether a tag of IFD0, neither pointer nor block, is worth a word if only descriptive ones are kept.

    Up to 767, all that are neither descriptive nor among the few that are named here tell how pixels are
    stored (TIFF 6.0 and its supplements); an output has its own.
    """
    return not _is_descriptive(entry) and (entry.tag > _LAST_STRUCTURAL or entry.tag in _TOLD)


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


def homeless_in_tiff(block: bytes) -> tuple[list[int], int]:
    """What ``append_to_tiff`` has no place for: tags of IFD0, and how many are damaged."""
    reader = reader_of(block)
    placed = (EXIF_IFD, GPS_IFD, PADDING)
    lost = [e.tag for e in reader.ifd0.entries if is_missed(e) and e.tag not in placed]
    return lost, tags_in(reader).unreadable


def orientation(block: bytes) -> int:
    """How the photo must be turned, 1 to 8; anything else that the block says counts as 1."""
    reader = reader_of(block)
    try:
        numbers = reader.numbers(reader.ifd0.find(ORIENTATION))
    except BrokenTiff:
        return 1
    return numbers[0] if len(numbers) == 1 and 1 <= numbers[0] <= 8 else 1


def resolution(block: bytes) -> tuple[float, float] | None:
    """Pixels per mm, across and down, of the stored picture; None where the block does not say."""
    main = tags_of(block).main
    unit = main.get(_UNIT, Value(SHORT, b"\2\0"))
    mm = _MM_OF_UNIT.get(int.from_bytes(unit.data, "little"))
    across, down = (_rational(main.get(tag)) for tag in (_ACROSS, _DOWN))
    return (float(across) / mm, float(down) / mm) if mm and across and down else None


def _rational(value: Value | None) -> Fraction:
    """A single unsigned rational; 0 for anything else."""
    if value is None or value.type != RATIONAL or len(value.data) != 8:
        return Fraction(0)
    above, below = struct.unpack("<II", value.data)
    return Fraction(above, below) if below else Fraction(0)


def fresh(software: str | None, told: tuple[float, float] | None = None) -> bytes | None:
    """The smallest EXIF block, for a photo that had none; None where there is nothing to say.

    ``told`` is the resolution, in pixels per mm, for formats that have no other place for it.
    """
    main = {SOFTWARE: _text(software)} if software is not None else {}
    main |= _resolution_tags(told) if told else {}
    return block_of(Tags(main=main)) if main else None


def _resolution_tags(told: tuple[float, float]) -> dict[int, Value]:
    """Pixels per mm as EXIF tells them, per inch."""
    numbers = (rational(Fraction(value * 25.4).limit_denominator(1000)) for value in told)
    across, down = (Value(RATIONAL, struct.pack("<II", *number)) for number in numbers)
    return {_ACROSS: across, _DOWN: down, _UNIT: Value(SHORT, struct.pack("<H", 2))}


def block_of(tags: Tags, *, note_at: int | None = None) -> bytes:
    """An EXIF block with these tags, and the MakerNote at ``note_at`` unless that makes a large block."""
    layout = Layout("<", big=False)
    note = tags.exif.get(MAKER_NOTE)
    if note is not None and note_at is not None and _FIRST_FREE <= note_at <= _LARGEST_PADDED_BLOCK:
        # The directories go before it if they are short enough, else behind it.
        note_end = note_at + len(note.data)
        before, behind = 8, note_end + note_end % 2
        at = before if before + len(_assembled(layout, tags, {}, 0, note_at=note_at)) <= note_at else behind
        family = _assembled(layout, tags, {}, at, note_at=note_at)
        block = bytearray(max(at + len(family), behind))
        block[:8] = b"II*\0" + layout.offset(at)
        block[at : at + len(family)] = family
        block[note_at:note_end] = note.data
        if len(block) <= _LARGEST_PADDED_BLOCK:
            return bytes(block)
    return b"II*\0" + layout.offset(8) + _assembled(layout, tags, {}, 8)


def maker_note_at(reader: TiffReader) -> int | None:
    """Where the bytes of the MakerNote begin; None where there is none, or none that has offsets."""
    exif = reader.intact_child(reader.ifd0, EXIF_IFD)
    note = exif.find(MAKER_NOTE) if exif else None
    if note is None or note.size <= reader.layout.offset_size or reader.value(note, _LARGEST_COPY) is None:
        return None
    return note.value_at


def maker_note_moves(block: bytes) -> bool:
    """Whether a TIFF file has no room for the MakerNote at the place where it stands in the block."""
    at = maker_note_at(reader_of(block))
    return at is not None and at < _FIRST_FREE


def corrected(
    block: bytes,
    *,
    width: int,
    height: int,
    software: str | None,
    placement: Placement | None = None,
    on_its_side: bool = False,
    new_colours: bool = False,
    told: tuple[float, float] | None = None,
) -> bytes:
    """The EXIF block for an upright enlargement: its size, no rotation, no thumbnail, ``software``.

    Tags that are not there are not added, except Software; None leaves that one as it is. ``placement`` says
    where the subject lies in the output; None leaves it where it is. ``on_its_side`` makes the resolution
    across that down, since the stored picture's width is the output's height. ``new_colours`` leaves out what
    the block says of the photo's colours: the output has others, and a profile that tells them. ``told`` is
    the resolution, in pixels per mm, where the output has no other place for one that the block does not say.
    """
    reader = reader_of(block)
    layout, size, patched = reader.layout, {"width": width, "height": height}, bytearray(block)
    exif = reader.intact_child(reader.ifd0, EXIF_IFD)
    interop = reader.intact_child(exif, INTEROP_IFD)
    for directory, sides in ((exif, _SIZE_IN_EXIF), (interop, _SIZE_IN_INTEROP)):
        for entry in directory.entries if directory else ():
            if entry.tag in sides:
                value = Value(LONG, struct.pack("<I", size[sides[entry.tag]]))
                patched[entry.at : entry.at + layout.entry_size] = layout.entry(entry.tag, value, 0)[0]
    if new_colours and exif and (space := exif.find(_COLOUR_SPACE)):
        value = Value(SHORT, struct.pack("<H", _UNCALIBRATED))
        patched[space.at : space.at + layout.entry_size] = layout.entry(space.tag, value, 0)[0]

    ifd0: dict[int, Value | bytes] = {}
    for entry in reader.ifd0.entries:
        if entry.tag not in _THUMBNAILS_IN_IFD0 and not (new_colours and entry.tag in _COLOURS_IN_IFD0):
            ifd0.setdefault(entry.tag, block[entry.at : entry.at + layout.entry_size])
    if ORIENTATION in ifd0:
        ifd0[ORIENTATION] = Value(SHORT, struct.pack("<H", 1))
    for tag in _SIZE_IN_IFD0.keys() & ifd0.keys():
        ifd0[tag] = Value(LONG, struct.pack("<I", size[_SIZE_IN_IFD0[tag]]))
    across, down = ifd0.get(_ACROSS), ifd0.get(_DOWN)
    if on_its_side and isinstance(across, bytes) and isinstance(down, bytes):
        ifd0[_ACROSS], ifd0[_DOWN] = across[:2] + down[2:], down[:2] + across[2:]
    if software is not None:
        ifd0[SOFTWARE] = _text(software)
    if told is not None:
        ifd0 |= _resolution_tags(told)

    kept = {tag for tag, value in ifd0.items() if isinstance(value, bytes)}
    _erase(patched, *_dead_and_live(reader, kept))
    patched += b"\0" * (len(patched) % 2)
    if exif and placement:
        void = []
        for placed, moved in _placed(reader, exif, placement):
            if moved is None:
                void.append(placed)
                continue
            written, elsewhere = layout.entry(placed.tag, moved, len(patched))
            patched[placed.at : placed.at + layout.entry_size] = written
            patched += elsewhere
        _take_out(patched, layout, exif, void)
    at = len(patched)
    patched += layout.directory(ifd0, at)
    patched[4:8] = layout.offset(at)
    return bytes(patched)


def loses_subject(block: bytes, placement: Placement) -> bool:
    """Whether a block tells of a subject that lies outside the picture, which the output will not say.

    Raises:
        BrokenTiff: it is no EXIF block.
    """
    reader = reader_of(block)
    exif = reader.intact_child(reader.ifd0, EXIF_IFD)
    return exif is not None and any(value is None for _, value in _placed(reader, exif, placement))


def _placed(
    reader: TiffReader, exif: Directory, placement: Placement
) -> Iterator[tuple[Entry, Value | None]]:
    """Tags of the Exif directory that hold for the photo's pixels, and their values for the output.

    None for those that would say nothing true of it.
    """
    for entry in exif.entries:
        if entry.tag not in _SUBJECTS or entry.type not in (SHORT, LONG) or not 2 <= entry.count <= 4:
            continue
        try:
            numbers = placement.subject(reader.numbers(entry))
        except BrokenTiff:
            continue
        if numbers is None:
            yield entry, None
            continue
        kind, code = (SHORT, "H") if max(numbers) < 1 << 16 else (LONG, "I")  # no reader minds
        yield entry, Value(kind, struct.pack(f"<{len(numbers)}{code}", *numbers))
    entries = [found for tag in _FOCAL_PLANE if (found := exif.find(tag))]
    across_and_down = [number for found in entries if (number := _rational(reader.value(found, 8)))]
    if len(across_and_down) == len(_FOCAL_PLANE):
        for entry, number in zip(entries, placement.focal_plane(*across_and_down), strict=True):
            yield entry, Value(RATIONAL, struct.pack("<II", *rational(number)))


def _take_out(patched: bytearray, layout: Layout, directory: Directory, void: Iterable[Entry]) -> None:
    """Take entries out of a directory. Those behind them close up; nothing outside it moves."""
    for entry in sorted(void, key=lambda entry: entry.at, reverse=True):
        behind = patched[entry.at + layout.entry_size : directory.end]
        patched[entry.at : directory.end] = behind + bytes(layout.entry_size)
        head = slice(directory.at, directory.at + layout.head_size)
        patched[head] = layout.count(layout.number(bytes(patched[head])) - 1)


def append_to_tiff(
    path: Path,
    block: bytes | None,
    *,
    xmp: bytes | None = None,
    iptc: bytes | None = None,
    extra_is_data: bool = False,
) -> None:
    """Add the descriptive tags of an EXIF block, XMP and IPTC to a TIFF or BigTIFF file, in place.

    ``extra_is_data`` makes the channel beside the colours one that is no transparency.
    A new IFD0 goes to the end of the file and the header is pointed at it. Pixels are not touched, but where
    the MakerNote stood in the block it stands in the file too, and strips or tiles give way to it: its own
    offsets may count from the start. In a file of several pictures it goes to the end.

    Raises:
        PhotoTooLarge: with its metadata the file passes what its offsets reach.
    """
    tags = tags_of(block).descriptive()
    note_at = maker_note_at(reader_of(block)) if block and MAKER_NOTE in tags.exif else None
    if xmp:
        tags.main[XMP] = Value(BYTE, xmp)
    if iptc:
        tags.main[IPTC] = Value(UNDEFINED, iptc)
    if extra_is_data:
        tags.main[EXTRA_SAMPLES] = Value(SHORT, b"\0\0")
    with path.open("r+b") as file:
        reader = TiffReader(file)
        layout, old = reader.layout, reader.ifd0
        note = b""
        if note_at is not None and note_at >= _FIRST_FREE and not old.next_at and not old.find(SUB_IFDS):
            note = layout.entry(MAKER_NOTE, tags.exif[MAKER_NOTE], note_at)[1]
        try:
            if note_at is not None and note:
                kept = _with_note(file, reader, note_at, note)
            else:
                note_at = None
                kept = {entry.tag: _at(file, entry.at, layout.entry_size) for entry in old.entries}
            end = file.seek(0, io.SEEK_END)
            at = end + -end % 8
            family = _assembled(layout, tags, kept, at, old.next_at, note_at)
        except (struct.error, OverflowError):
            raise PhotoTooLarge("the TIFF file passes 4 GB with its metadata; write BigTIFF") from None
        file.write(b"\0" * (at - end) + family)
        file.seek(8 if layout.big else 4)
        file.write(layout.offset(at))


def _with_note(file: BinaryIO, reader: TiffReader, note_at: int, note: bytes) -> dict[int, bytes]:
    """Write a MakerNote into a file of one picture; what stood there goes to the end of the file.

    Returns the entries of IFD0 by their tags, with the new places of what was moved. The old directory may
    be written over.
    """
    layout, note_end = reader.layout, note_at + len(note)
    end = max(reader.end, note_end)

    def moved(start: int, size: int) -> int:
        """Copy to the end of the file."""
        nonlocal end
        data, at = _at(file, start, size), end + end % 2
        file.seek(at)
        file.write(data)
        end = at + size
        return at

    for places, sizes in _DATA_OF_PICTURE:
        starts_entry, sizes_entry = reader.ifd0.find(places), reader.ifd0.find(sizes)
        if starts_entry is None or sizes_entry is None:
            continue
        step = starts_entry.size // starts_entry.count
        starts = _whole_numbers(layout, reader.raw(starts_entry), starts_entry.count)
        lengths = _whole_numbers(layout, reader.raw(sizes_entry), sizes_entry.count)
        for index, (start, size) in enumerate(zip(starts, lengths, strict=False)):
            if start < note_end and note_at < start + size:
                new = moved(start, size).to_bytes(step, "little" if layout.order == "<" else "big")
                file.seek(starts_entry.value_at + index * step)
                file.write(new)

    kept = {}
    for entry in reader.ifd0.entries:
        written = _at(file, entry.at, layout.entry_size)
        if (
            entry.size > layout.offset_size
            and entry.value_at < note_end
            and note_at < entry.value_at + entry.size
        ):
            written = written[: -layout.offset_size] + layout.offset(moved(entry.value_at, entry.size))
        kept[entry.tag] = written
    file.seek(note_at)
    file.write(note)
    return kept


def _at(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)


def _whole_numbers(layout: Layout, data: bytes, count: int) -> list[int]:
    step = len(data) // count
    return [layout.number(data[i : i + step]) for i in range(0, len(data), step)]


def _assembled(
    layout: Layout,
    tags: Tags,
    kept: Mapping[int, bytes],
    at: int,
    next_at: int = 0,
    note_at: int | None = None,
) -> bytes:
    """IFD0 for offset ``at``, and behind it the Exif, Interoperability and GPS directories.

    With ``note_at`` the MakerNote is not among them but stands there already.
    """
    main: dict[int, Value | bytes] = {**kept, **tags.main}
    exif: dict[int, Value | bytes] = {**tags.exif}
    if note_at is not None:
        exif[MAKER_NOTE] = layout.entry(MAKER_NOTE, tags.exif[MAKER_NOTE], note_at)[0]
    # A directory is as long wherever its pointers lead, so it is measured with pointers to nowhere.
    if tags.interop:
        exif[INTEROP_IFD] = layout.pointer(0)
    if exif:
        main[EXIF_IFD] = layout.pointer(0)
    if tags.gps:
        main[GPS_IFD] = layout.pointer(0)
    exif_at = at + len(layout.directory(main, at))
    interop_at = exif_at + (len(layout.directory(exif, exif_at)) if exif else 0)
    gps_at = interop_at + (len(layout.directory(tags.interop, interop_at)) if tags.interop else 0)
    parts = []
    if tags.interop:
        exif[INTEROP_IFD] = layout.pointer(interop_at)
        parts.append(layout.directory(tags.interop, interop_at))
    if exif:
        main[EXIF_IFD] = layout.pointer(exif_at)
        parts.insert(0, layout.directory(exif, exif_at))
    if tags.gps:
        main[GPS_IFD] = layout.pointer(gps_at)
        parts.append(layout.directory(tags.gps, gps_at))
    return b"".join([layout.directory(main, at, next_at), *parts])


_Spans = list[tuple[int, int]]


def _dead_and_live(reader: TiffReader, kept: set[int]) -> tuple[_Spans, _Spans]:
    """Bytes that nothing needs once IFD0 is written anew with ``kept`` tags, and bytes still in use."""
    ifd0 = reader.ifd0
    dead = [(ifd0.at, ifd0.end), *_values([e for e in ifd0.entries if e.tag not in kept])]
    dead += _thumbnail_data(reader, ifd0)
    for directory in reader.following(ifd0):
        dead += [
            (directory.at, directory.end),
            *_values(directory.entries),
            *_thumbnail_data(reader, directory),
        ]
    live = [(0, 8), *_values([e for e in ifd0.entries if e.tag in kept])]
    exif = reader.intact_child(ifd0, EXIF_IFD)
    for child in (exif, reader.intact_child(ifd0, GPS_IFD), reader.intact_child(exif, INTEROP_IFD)):
        if child:
            live += [(child.at, child.end), *_values(child.entries)]
    return dead, live


def _values(entries: Iterable[Entry]) -> _Spans:
    """Where values lie that are too large to lie inside their entries."""
    return [(e.value_at, e.value_at + e.size) for e in entries if e.size > 4]


def _thumbnail_data(reader: TiffReader, directory: Directory) -> _Spans:
    spans: _Spans = []
    for starts, sizes in _DATA_OF_THUMBNAIL:
        try:
            pairs = zip(
                reader.numbers(directory.find(starts)), reader.numbers(directory.find(sizes)), strict=False
            )
            spans += [(start, start + size) for start, size in pairs if size]
        except BrokenTiff:
            continue
    return spans


def _erase(block: bytearray, dead: _Spans, live: _Spans) -> None:
    """Blank the dead spans, or cut them off at the end of the block.

    A damaged block may call the same bytes thumbnail and MakerNote; what is in use wins.
    """
    used = _merged(live)
    starts = [start for start, _ in used]
    free = [span for span in dead if span[1] <= len(block) and not _overlaps(span, used, starts)]
    for start, end in reversed(_merged(free)):
        if start >= used[-1][1] and end >= len(block) - 1:  # values are padded to even lengths
            del block[start:]
        else:
            block[start:end] = bytes(end - start)


def _merged(spans: Iterable[tuple[int, int]]) -> _Spans:
    """The same bytes as spans in ascending order that do not touch each other."""
    merged: _Spans = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _overlaps(span: tuple[int, int], used: _Spans, starts: list[int]) -> bool:
    """Whether a span shares a byte with merged spans, whose starts are given too."""
    before = bisect_left(starts, span[1]) - 1
    return before >= 0 and used[before][1] > span[0]


def _text(text: str) -> Value:
    return Value(ASCII, text.encode() + b"\0")
