"""The tags of TIFF files that are metadata. They are written by ``tiff_append``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

from srbatch.containers import exif
from srbatch.containers.blocks import C2PA_LOST, Blocks
from srbatch.containers.exif_build import block_of
from srbatch.containers.photoshop import take_photoshop
from srbatch.containers.tiff_structure import LONG, BrokenTiff, Directory, TiffReader
from srbatch.errors import UnreadablePhoto, UnsupportedPhoto

_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _WIDTH, _LENGTH = 0x00FE, 0x00FF, 0x0100, 0x0101
_REDUCED, _REDUCED_BEFORE_TIFF_6 = 1, 2
"""What NewSubfileType, and what SubfileType, says of a smaller copy of another picture of the file."""
_MOST_COPIES = 64
"""A pyramid has as many as its sides can be halved; a crafted file can name the same ones again and again."""
_COMPRESSION, _PHOTOMETRIC, _SAMPLES_PER_PIXEL = 0x0103, 0x0106, 0x0115
_YCBCR, _JPEG_COMPRESSIONS = 6, ([6], [7])
_COLOURS_OF = {0: 1, 1: 1, 3: 1, 5: 4}
"""Samples of a colour by PhotometricInterpretation: grey, palettes, inks; all others have 3."""
_TIFF_GEOGRAPHY = frozenset([33550, 33922, 34264, 34735, 34736, 34737])
_TIFF_C2PA = 52545
_EXTENDED = 1 << 15
"""From there on, the length of a dataset says how many bytes hold its length."""
_TIFF_NOT_MISSED = frozenset(
    [exif.ICC, exif.IPTC, exif.PHOTOSHOP, exif.EXIF_IFD, exif.GPS_IFD, exif.SUB_IFDS, exif.PADDING]
)


def read_tiff(file: BinaryIO) -> Blocks:
    """The tags of the first picture in a TIFF or BigTIFF file.

    Raises:
        UnreadablePhoto: its structure is damaged.
        UnsupportedPhoto: its colours are of a kind that the decoder takes for another, or it holds further
            pictures that are no smaller copies of the first.
    """
    try:
        reader = TiffReader(file)
        tags = exif.tags_in(reader)
    except BrokenTiff as error:
        raise UnreadablePhoto(f"the TIFF file is damaged or cut off: {error}") from error
    _check_colour(reader)
    copies = _smaller_copies(reader)
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
        elif exif.swaps_maker_note(tags, reader.layout.order, exif.reader_of(blocks.exif).layout.order):
            blocks.note(exif.MAKER_NOTE_SWAPPED)
    if tags.unreadable:
        blocks.note(f"{tags.unreadable} damaged or unknown TIFF tags were not carried")
    _note_tiff_losses(reader, blocks)
    if copies:
        one = "smaller copy of the picture" if copies == 1 else "smaller copies of the picture"
        blocks.note(f"{copies} {one} (thumbnails or a pyramid) in the TIFF file, not carried")
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


def _smaller_copies(reader: TiffReader) -> int:
    """How many smaller copies of the first picture follow it or lie inside of it.

    Raises:
        UnsupportedPhoto: there is a picture that is none, and would be lost.
    """
    following, inside = (
        list(islice(found, _MOST_COPIES + 1)) for found in (reader.following(reader.ifd0), _inside(reader))
    )
    for directories, told in (
        (following, f"a file of {1 + len(following)} pictures; split it into single ones"),
        (inside, "a TIFF with further pictures inside (SubIFDs), which would be lost"),
    ):
        if len(directories) > _MOST_COPIES or not all(_is_smaller_copy(reader, one) for one in directories):
            raise UnsupportedPhoto(told)
    return len(following) + len(inside)


def _inside(reader: TiffReader) -> Iterator[Directory | None]:
    """What the tag SubIFDs points to, and what follows there; None for what is damaged."""
    try:
        starts = reader.numbers(reader.ifd0.find(exif.SUB_IFDS))
    except BrokenTiff:
        starts = [0]
    for start in starts:
        try:
            first = reader.directory(start)
        except BrokenTiff:
            yield None
            continue
        yield first
        yield from reader.following(first)


def _is_smaller_copy(reader: TiffReader, directory: Directory | None) -> bool:
    """Whether it says so, and is smaller than the first: that of a raw file is itself a copy of another."""
    if directory is None:
        return False
    try:
        kind, old_kind, width, length = (
            reader.numbers(directory.find(tag)) for tag in (_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _WIDTH, _LENGTH)
        )
        whole_width, whole_length = (reader.numbers(reader.ifd0.find(tag)) for tag in (_WIDTH, _LENGTH))
    except BrokenTiff:
        return False
    is_copy = kind == [_REDUCED] or (not kind and old_kind == [_REDUCED_BEFORE_TIFF_6])
    return is_copy and [0] < width < whole_width and [0] < length < whole_length


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
    for entry in reader.ifd0.entries:
        if entry.tag in _TIFF_GEOGRAPHY:
            blocks.note("the map reference (GeoTIFF) was not carried: it holds for the old size only")
        elif entry.tag == _TIFF_C2PA:
            blocks.note(C2PA_LOST)
        elif exif.is_missed(entry) and entry.tag not in _TIFF_NOT_MISSED:
            blocks.note(f"the TIFF tag {entry.tag} was not carried")
