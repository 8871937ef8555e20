"""The tags of TIFF files that are metadata. They are written by ``tiff_append``."""

from __future__ import annotations

from typing import BinaryIO

from srbatch import exif
from srbatch.containers import C2PA_LOST, Blocks
from srbatch.errors import UnreadablePhoto, UnsupportedPhoto
from srbatch.exif_build import block_of
from srbatch.photoshop import take_photoshop
from srbatch.tiff_structure import LONG, BrokenTiff, TiffReader

_COMPRESSION, _PHOTOMETRIC, _SAMPLES_PER_PIXEL = 0x0103, 0x0106, 0x0115
_YCBCR, _JPEG_COMPRESSIONS = 6, ([6], [7])
_COLOURS_OF = {0: 1, 1: 1, 3: 1, 5: 4}
"""Samples of a colour by PhotometricInterpretation: grey, palettes, inks; all others have 3."""
_TIFF_GEOGRAPHY = frozenset([33550, 33922, 34264, 34735, 34736, 34737])
_TIFF_C2PA = 52545
_EXTENDED = 1 << 15
"""From there on, the length of a dataset says how many bytes hold its length."""
_TIFF_NOT_MISSED = (exif.ICC, exif.IPTC, exif.PHOTOSHOP, exif.EXIF_IFD, exif.GPS_IFD, exif.PADDING)


def read_tiff(file: BinaryIO) -> Blocks:
    """The tags of the first picture in a TIFF or BigTIFF file.

    Raises:
        UnreadablePhoto: its structure is damaged.
        UnsupportedPhoto: its colours are of a kind that the decoder takes for another.
    """
    try:
        reader = TiffReader(file)
        tags = exif.tags_in(reader)
    except BrokenTiff as error:
        raise UnreadablePhoto(f"the TIFF file is damaged or cut off: {error}") from error
    _check_colour(reader)
    blocks = Blocks()
    blocks.icc = _tiff_block(reader, exif.ICC, blocks)
    blocks.xmp = _tiff_block(reader, exif.XMP, blocks)
    blocks.iptc = _tiff_block(reader, exif.IPTC, blocks)
    take_photoshop(_tiff_block(reader, exif.PHOTOSHOP, blocks) or b"", blocks)
    if tags.main or tags.exif or tags.gps:
        note_at = exif.maker_note_at(reader) if exif.MAKER_NOTE in tags.exif else None
        blocks.exif = block_of(tags, note_at=note_at)
        if note_at is not None and note_at != exif.maker_note_at(exif.reader_of(blocks.exif)):
            blocks.note(exif.MAKER_NOTE_MOVED)
    if tags.unreadable:
        blocks.note(f"{tags.unreadable} damaged or unknown TIFF tags were not carried")
    _note_tiff_losses(reader, blocks)
    blocks.extra_is_data = _extra_is_data(reader)
    return blocks


def _check_colour(reader: TiffReader) -> None:
    """Refuse YCbCr that is not JPEG's own: libvips gives its numbers out as if they were RGB."""
    try:
        compression, colours = (reader.numbers(reader.ifd0.find(tag)) for tag in (_COMPRESSION, _PHOTOMETRIC))
    except BrokenTiff:
        return
    if colours == [_YCBCR] and compression not in _JPEG_COMPRESSIONS:
        raise UnsupportedPhoto(
            "its colours are YCbCr without JPEG compression, which is not supported; convert it to RGB"
        )


def _extra_is_data(reader: TiffReader) -> bool:
    """Whether a channel beside the colours is not said to be transparency.

    What it is has to be said and often is not; then nothing tells that it hides anything.
    """
    try:
        colours, samples, kinds = (
            reader.numbers(reader.ifd0.find(tag))
            for tag in (_PHOTOMETRIC, _SAMPLES_PER_PIXEL, exif.EXTRA_SAMPLES)
        )
    except BrokenTiff:
        return False
    has_extra = bool(colours) and samples == [_COLOURS_OF.get(colours[0], 3) + 1]
    return has_extra and kinds[:1] not in ([1], [2])


def _tiff_block(reader: TiffReader, tag: int, blocks: Blocks) -> bytes | None:
    entry = reader.ifd0.find(tag)
    try:
        data = reader.raw(entry) if entry else None
    except BrokenTiff:
        blocks.note(f"the TIFF tag {tag} is damaged and was not carried")
        return None
    if data and entry and entry.type == LONG:
        data = data[: _end_of_datasets(data)]  # IPTC was long declared as 32-bit numbers, and padded to them
    return data or None


def _end_of_datasets(data: bytes) -> int:
    """Where only zeros follow the last dataset (IIM 4.2, chapter 1: five bytes and a value), or the end."""
    at = 0
    while data[at : at + 1] == b"\x1c" and at + 5 <= len(data):
        size = int.from_bytes(data[at + 3 : at + 5], "big")
        at += 5
        if size >= _EXTENDED:
            digits = size - _EXTENDED
            size = int.from_bytes(data[at : at + digits], "big")
            at += digits
        at += size
    return len(data) if data[at:].strip(b"\0") else min(at, len(data))


def _note_tiff_losses(reader: TiffReader, blocks: Blocks) -> None:
    if further := sum(1 for _ in reader.following(reader.ifd0)):
        pages = "page of the TIFF file was" if further == 1 else "pages of the TIFF file were"
        blocks.note(f"{further} further {pages} not carried")
    for entry in reader.ifd0.entries:
        if entry.tag == exif.SUB_IFDS:
            blocks.note("the further pictures inside the TIFF file (SubIFDs) were not carried")
        elif entry.tag in _TIFF_GEOGRAPHY:
            blocks.note("the map reference (GeoTIFF) was not carried: it holds for the old size only")
        elif entry.tag == _TIFF_C2PA:
            blocks.note(C2PA_LOST)
        elif exif.is_missed(entry) and entry.tag not in _TIFF_NOT_MISSED:
            blocks.note(f"the TIFF tag {entry.tag} was not carried")
