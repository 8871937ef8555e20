"""Metadata appended to a TIFF file that a codec has written: tags of an EXIF block, XMP and IPTC.

The new IFD0 goes to the end of the file with the directories below it, and the header is pointed at it. Tags
are copied value by value, in the byte order of the file. What the MakerNote's own offsets count from is known
to the camera's maker alone: if from the start of the structure, they are right only where it stands at the
place in the file where it stood in the block. So it goes there, and what the codec had put there goes to the
end of the file.
"""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path
from typing import BinaryIO

from srbatch.containers import exif
from srbatch.containers.exif import (
    EXIF_IFD,
    EXTRA_SAMPLES,
    FIRST_FREE,
    GPS_IFD,
    IPTC,
    MAKER_NOTE,
    PADDING,
    PLACE_ON_PAGE,
    RESOLUTION_UNIT,
    SUB_IFDS,
    X_RESOLUTION,
    XMP,
    Y_RESOLUTION,
    is_missed,
    maker_note_at,
    mm_of_unit,
    reader_of,
    tags_in,
    tags_of,
)
from srbatch.containers.exif_build import directories
from srbatch.containers.tiff_structure import BYTE, UNDEFINED, Layout, TiffReader, Value
from srbatch.errors import PhotoTooLarge

_ORDER_WRITTEN = "<" if sys.byteorder == "little" else ">"
"""libvips writes TIFF in the order of the machine."""
_PICTURE_DATA = ((0x0111, 0x0117), (0x0144, 0x0145))
"""Tags that list the strips or the tiles of a picture: where they are, and how many bytes each has."""


def without_place(block: bytes) -> tuple[list[int], int]:
    """What of an EXIF block a TIFF file has no place for: tags of IFD0, and how many tags are damaged."""
    reader = reader_of(block)
    placed = (EXIF_IFD, GPS_IFD, PADDING)
    lost = [e.tag for e in reader.ifd0.entries if is_missed(e) and e.tag not in placed]
    tags = tags_in(reader)
    if mm_of_unit(tags.main) is None:
        lost += sorted(PLACE_ON_PAGE & tags.main.keys())
    return lost, tags.unreadable


def moves_maker_note(block: bytes) -> bool:
    """Whether a TIFF file has no room for the MakerNote at the place where it stands in the block."""
    at = maker_note_at(reader_of(block))
    return at is not None and at < FIRST_FREE


def swaps_maker_note(block: bytes) -> bool:
    """As :func:`srbatch.containers.exif.swaps_maker_note`, for a TIFF file as it is written here."""
    reader = reader_of(block)
    return exif.swaps_maker_note(tags_in(reader), reader.layout.order, _ORDER_WRITTEN)


def append_metadata(
    path: Path,
    block: bytes | None,
    *,
    xmp: bytes | None,
    iptc: bytes | None,
    extra_is_data: bool,
    resolution_known: bool = True,
) -> None:
    """Add the descriptive tags of an EXIF block, XMP and IPTC to a TIFF or BigTIFF file, in place.

    No pixel changes, but strips or tiles may be moved within the file. In a file of several pictures the
    MakerNote goes to the end, and nothing is moved.

    Args:
        path: the file.
        block: an EXIF block.
        xmp: a packet.
        iptc: IIM records.
        extra_is_data: whether to say of the channel beside the colours that it is no transparency.
        resolution_known: whether the resolution in the file is one. If not, the file tells that pixels are
            square alone, since these tags may not be missing (TIFF 6.0, section 4).

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
        tags.main[EXTRA_SAMPLES] = Value.short(0)
    if not resolution_known:
        tags.main |= {X_RESOLUTION: Value.rational(1, 1), Y_RESOLUTION: Value.rational(1, 1)}
        tags.main[RESOLUTION_UNIT] = Value.short(1)
    with path.open("r+b") as file:
        reader = TiffReader(file)
        layout, old = reader.layout, reader.ifd0
        note_fits_entry = MAKER_NOTE in tags.exif and len(tags.exif[MAKER_NOTE].data) <= layout.offset_size
        if note_fits_entry or (note_at or 0) < FIRST_FREE or old.next_at or old.find(SUB_IFDS):
            note_at = None
        try:
            if note_at is None:
                entries = {entry.tag: _read_at(file, entry.at, layout.entry_size) for entry in old.entries}
            else:
                _, note = layout.entry(MAKER_NOTE, tags.exif[MAKER_NOTE], note_at)
                entries = _with_note(file, reader, note_at, note)
            end = file.seek(0, io.SEEK_END)
            at = end + -end % 8
            made = directories(layout, tags, at, entries=entries, next_at=old.next_at, note_at=note_at)
        except (struct.error, OverflowError):
            raise PhotoTooLarge("the TIFF file passes 4 GB with its metadata; write BigTIFF") from None
        file.write(b"\0" * (at - end) + made)
        file.seek(8 if layout.big else 4)
        file.write(layout.offset(at))


def _with_note(file: BinaryIO, reader: TiffReader, note_at: int, note: bytes) -> dict[int, bytes]:
    """Write a MakerNote into a file of one picture; what stood there goes to the end of the file.

    Returns the entries of IFD0 by their tags, with the new places of what was moved. The old directory may
    be written over.
    """
    taken = range(note_at, note_at + len(note))
    file.truncate(max(reader.end, taken.stop))  # what is moved goes behind the note too
    _move_picture_data(file, reader, taken)
    entries = _move_values(file, reader, taken)  # the lists of places, which have changed, among them
    file.seek(note_at)
    file.write(note)
    return entries


def _move_picture_data(file: BinaryIO, reader: TiffReader, taken: range) -> None:
    """Move the strips or tiles that lie in a range of the file, and correct the list of their places."""
    layout = reader.layout
    for places, sizes in _PICTURE_DATA:
        places_entry, sizes_entry = reader.ifd0.find(places), reader.ifd0.find(sizes)
        if places_entry is None or sizes_entry is None:
            continue
        step = places_entry.size // places_entry.count
        starts = _whole_numbers(layout, reader.raw(places_entry), places_entry.count)
        lengths = _whole_numbers(layout, reader.raw(sizes_entry), sizes_entry.count)
        for index, (start, size) in enumerate(zip(starts, lengths, strict=False)):
            if _overlaps(start, size, taken):
                new = _moved_to_end(file, start, size)
                file.seek(places_entry.value_at + index * step)
                file.write(new.to_bytes(step, "little" if layout.order == "<" else "big"))


def _move_values(file: BinaryIO, reader: TiffReader, taken: range) -> dict[int, bytes]:
    """Move the values of IFD0 that lie in a range of the file; returns the entries with their new places."""
    layout, entries = reader.layout, {}
    for entry in reader.ifd0.entries:
        written = _read_at(file, entry.at, layout.entry_size)
        if entry.size > layout.offset_size and _overlaps(entry.value_at, entry.size, taken):
            new = _moved_to_end(file, entry.value_at, entry.size)
            written = written[: -layout.offset_size] + layout.offset(new)
        entries[entry.tag] = written
    return entries


def _overlaps(start: int, size: int, taken: range) -> bool:
    return start < taken.stop and taken.start < start + size


def _moved_to_end(file: BinaryIO, start: int, size: int) -> int:
    """Copy bytes to the end of the file; returns where they begin."""
    data = _read_at(file, start, size)
    end = file.seek(0, io.SEEK_END)
    at = end + end % 2
    file.seek(at)
    file.write(data)
    return at


def _read_at(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)


def _whole_numbers(layout: Layout, data: bytes, count: int) -> list[int]:
    step = len(data) // count
    return [layout.number(data[i : i + step]) for i in range(0, len(data), step)]
