"""An EXIF block, corrected for an upright enlargement of its photo.

The block is patched, never written anew: nothing that is still in use may move, since MakerNotes hold offsets
that only the camera's maker understands.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping

from srbatch.containers.exif import (
    COLOUR_SPACE,
    EXIF_IFD,
    GPS_IFD,
    ICC,
    INTEROP_IFD,
    ORIENTATION,
    PLACE_ON_PAGE,
    SOFTWARE,
    SUB_IFDS,
    TRANSFER_FUNCTION,
    UNCALIBRATED,
    X_RESOLUTION,
    Y_RESOLUTION,
    fraction,
    reader_of,
)
from srbatch.containers.exif_build import resolution_tags
from srbatch.containers.tiff_structure import (
    LONG,
    SHORT,
    BrokenTiff,
    Directory,
    Entry,
    Layout,
    TiffReader,
    Value,
)
from srbatch.placement import Placement, rational

_HEIGHT, _WIDTH = 0, 1  # of a size
_SIZE_IN_IFD0 = {0x0100: _WIDTH, 0x0101: _HEIGHT}
_SIZE_IN_EXIF = {0xA002: _WIDTH, 0xA003: _HEIGHT}
_SIZE_IN_INTEROP = {0x1001: _WIDTH, 0x1002: _HEIGHT}  # RelatedImageWidth and RelatedImageLength, of DCF
_SUBJECTS = frozenset([0x9214, 0xA214])  # SubjectArea, SubjectLocation
_FOCAL_PLANE = (0xA20E, 0xA20F)  # FocalPlaneXResolution, FocalPlaneYResolution
_COLOURS_IN_IFD0 = frozenset(
    [
        # bits, kind and number of channels; inks; transfer function and range, white point, primaries
        *(0x0102, 0x0106, 0x0115, *range(0x014C, 0x0151), TRANSFER_FUNCTION, 0x0156, 0x013E, 0x013F),
        *(*range(0x0211, 0x0215), ICC),  # YCbCr, black and white; a profile
    ]
)
# A JPEG thumbnail or previews that hang on IFD0 itself, and the thumbnail tags of Windows' GDI+.
_THUMBNAILS_IN_IFD0 = frozenset([0x0201, 0x0202, SUB_IFDS, *range(0x5012, 0x501C), *range(0x5020, 0x503C)])
_THUMBNAIL_DATA = ((0x0201, 0x0202), (0x0111, 0x0117))  # as JPEG, or in strips: where, and how many bytes
_MOST_UNUSED = 1 << 14
"""Spans. A crafted block can name millions in a few bytes; what is left of one then stays where it is."""

_Spans = list[tuple[int, int]]
"""Where bytes begin and where they end."""


def corrected(
    block: bytes,
    placement: Placement,
    *,
    software: str | None,
    new_colours: bool,
    resolution: tuple[float, float] | None,
) -> bytes:
    """The EXIF block for an upright enlargement: its size, no rotation, no thumbnail, ``software``.

    Tags that are not there are not added, but for those that are asked for.

    Args:
        block: of the photo.
        placement: how the picture that the block tells of was turned, and its size and that of the output.
        software: for the tag Software; None leaves what is there.
        new_colours: whether the output has other colours, and a profile that tells them. What the block says
            of the photo's is left out then.
        resolution: pixels per mm across and down, for an output that has no other place for them and a block
            that does not say; None changes none but for the turn.

    Raises:
        BrokenTiff: it is no EXIF block.
    """
    reader = reader_of(block)
    layout = reader.layout
    ifd0 = _new_ifd0(block, reader, placement, software, new_colours, resolution)
    unchanged = {tag for tag, entry in ifd0.items() if isinstance(entry, bytes)}
    patched = bytearray(block)
    # This comes first, since it may shorten the block: what is appended below has its offsets from the end.
    _erase(patched, *_unused_and_used(reader, unchanged))
    patched += b"\0" * (len(patched) % 2)
    _replace_entries(patched, reader, placement, new_colours)
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
    return exif is not None and any(value is None for _, value in _new_subjects(reader, exif, placement))


def loses_place_on_page(block: bytes, placement: Placement) -> bool:
    """Whether a block tells where on a page the picture lies, which is not known of a turned one.

    Raises:
        BrokenTiff: it is no EXIF block.
    """
    return placement.turn != 1 and not PLACE_ON_PAGE.isdisjoint(e.tag for e in reader_of(block).ifd0.entries)


# ---- IFD0 ----------------------------------------------------------------------------------------


def _new_ifd0(
    block: bytes,
    reader: TiffReader,
    placement: Placement,
    software: str | None,
    new_colours: bool,
    resolution: tuple[float, float] | None,
) -> dict[int, Value | bytes]:
    """The entries of the new IFD0 by their tags; as bytes those that stay as they stand in the block."""
    dropped = _THUMBNAILS_IN_IFD0 | (_COLOURS_IN_IFD0 if new_colours else frozenset())
    if placement.turn != 1:
        dropped |= PLACE_ON_PAGE  # the page would have to be turned too, and its size is not known
    ifd0: dict[int, Value | bytes] = {}
    for entry in reader.ifd0.entries:
        if entry.tag not in dropped:
            ifd0.setdefault(entry.tag, block[entry.at : entry.at + reader.layout.entry_size])
    if ORIENTATION in ifd0:
        ifd0[ORIENTATION] = Value.short(1)
    for tag in _SIZE_IN_IFD0.keys() & ifd0.keys():
        ifd0[tag] = Value.long(placement.output[_SIZE_IN_IFD0[tag]])
    across, down = ifd0.get(X_RESOLUTION), ifd0.get(Y_RESOLUTION)
    if placement.on_its_side and isinstance(across, bytes) and isinstance(down, bytes):
        # Each tag gets all of the other's entry: type, count and value.
        ifd0[X_RESOLUTION], ifd0[Y_RESOLUTION] = across[:2] + down[2:], down[:2] + across[2:]
    if software is not None:
        ifd0[SOFTWARE] = Value.text(software)
    if resolution is not None:
        ifd0 |= resolution_tags(resolution)
    return ifd0


# ---- entries of the directories below it ---------------------------------------------------------


def _replace_entries(patched: bytearray, reader: TiffReader, placement: Placement, new_colours: bool) -> None:
    """Correct the Exif and Interoperability directories where they stand.

    Values that are too large for their entries go to the end of the block.
    """
    exif = reader.intact_child(reader.ifd0, EXIF_IFD)
    if exif is None:
        return
    interop = reader.intact_child(exif, INTEROP_IFD)
    new = [*_new_sizes(exif, _SIZE_IN_EXIF, placement), *_new_sizes(interop, _SIZE_IN_INTEROP, placement)]
    if new_colours and (space := exif.find(COLOUR_SPACE)):
        new.append((space, Value.short(UNCALIBRATED)))
    lost = []
    for entry, subject in _new_subjects(reader, exif, placement):
        if subject is None:
            lost.append(entry)
        else:
            new.append((entry, subject))
    new += _new_focal_plane(reader, exif, placement)
    for entry, value in new:
        _overwrite(patched, reader.layout, entry, value)
    _take_out(patched, reader.layout, exif, lost)


def _new_sizes(
    directory: Directory | None, sides: Mapping[int, int], placement: Placement
) -> Iterator[tuple[Entry, Value]]:
    for entry in directory.entries if directory else ():
        if entry.tag in sides:
            yield entry, Value.long(placement.output[sides[entry.tag]])


def _new_subjects(
    reader: TiffReader, exif: Directory, placement: Placement
) -> Iterator[tuple[Entry, Value | None]]:
    """The places of the subject in the output; None where it lies outside the picture."""
    for entry in exif.entries:
        if entry.tag not in _SUBJECTS or entry.type not in (SHORT, LONG) or not 2 <= entry.count <= 4:
            continue
        try:
            numbers = placement.subject(reader.numbers(entry))
        except BrokenTiff:
            continue
        if numbers is None:
            yield entry, None
        elif max(numbers) < 1 << 16:
            yield entry, Value.short(*numbers)
        else:
            yield entry, Value.long(*numbers)  # Exif has SHORT there; no reader minds


def _new_focal_plane(
    reader: TiffReader, exif: Directory, placement: Placement
) -> Iterator[tuple[Entry, Value]]:
    entries = [found for tag in _FOCAL_PLANE if (found := exif.find(tag))]
    across_and_down = [number for found in entries if (number := fraction(reader.value(found, 8)))]
    if len(across_and_down) == len(_FOCAL_PLANE):
        for entry, number in zip(entries, placement.focal_plane(*across_and_down), strict=True):
            yield entry, Value.rational(*rational(number))


def _overwrite(patched: bytearray, layout: Layout, entry: Entry, value: Value) -> None:
    """Give an entry another value."""
    written, elsewhere = layout.entry(entry.tag, value, len(patched))
    patched[entry.at : entry.at + layout.entry_size] = written
    patched += elsewhere


def _take_out(patched: bytearray, layout: Layout, directory: Directory, entries: Iterable[Entry]) -> None:
    """Take entries out of a directory. Those behind them close up; nothing outside it moves."""
    for entry in sorted(entries, key=lambda entry: entry.at, reverse=True):
        behind = patched[entry.at + layout.entry_size : directory.end]
        patched[entry.at : directory.end] = behind + bytes(layout.entry_size)
        head = slice(directory.at, directory.at + layout.head_size)
        patched[head] = layout.count(layout.number(bytes(patched[head])) - 1)


# ---- bytes that nothing needs any more -----------------------------------------------------------


def _unused_and_used(reader: TiffReader, unchanged: set[int]) -> tuple[_Spans, _Spans]:
    """Bytes that nothing needs once IFD0 is written anew, and bytes still in use.

    Args:
        reader: of the block.
        unchanged: tags of IFD0 whose values stay where they are.
    """
    ifd0 = reader.ifd0
    unused = [(ifd0.at, ifd0.end), *_values([e for e in ifd0.entries if e.tag not in unchanged])]
    unused += _thumbnail_data(reader, ifd0)
    for directory in reader.following(ifd0):
        if len(unused) > _MOST_UNUSED:
            break
        unused += [(directory.at, directory.end), *_values(directory.entries)]
        unused += _thumbnail_data(reader, directory)
    used = [(0, 8), *_values([e for e in ifd0.entries if e.tag in unchanged])]
    exif = reader.intact_child(ifd0, EXIF_IFD)
    for child in (exif, reader.intact_child(ifd0, GPS_IFD), reader.intact_child(exif, INTEROP_IFD)):
        if child:
            used += [(child.at, child.end), *_values(child.entries)]
    return unused, used


def _values(entries: Iterable[Entry]) -> _Spans:
    """Where values lie that are too large to lie inside their entries."""
    return [(e.value_at, e.value_at + e.size) for e in entries if e.size > 4]


def _thumbnail_data(reader: TiffReader, directory: Directory) -> _Spans:
    spans: _Spans = []
    for starts, sizes in _THUMBNAIL_DATA:
        try:
            pairs = zip(
                reader.numbers(directory.find(starts)), reader.numbers(directory.find(sizes)), strict=False
            )
            spans += [(start, start + size) for start, size in pairs if size]
        except BrokenTiff:
            continue
    return spans


def _erase(block: bytearray, unused: _Spans, used: _Spans) -> None:
    """Blank the unused spans, or cut them off at the end of the block.

    A damaged block may call the same bytes thumbnail and MakerNote; what is in use wins.
    """
    used = _merged(used)
    starts = [start for start, _ in used]
    free = [span for span in unused if span[1] <= len(block) and not _overlaps(span, used, starts)]
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
